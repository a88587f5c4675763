"""Write an export in one of eight formats. A format writes shards, and index files that are joined at the end."""

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from validation.analysis.export.samples import Sample
from validation.domain import SAMPLE_RATE

PARTS = ".export/parts"
"""Folder with one subfolder per shard. The subfolder holds the shard's part of each index file until the join."""


class ShardWriter(Protocol):
    """Writer of one shard of an export. It writes audio and index lines to a staging folder."""

    def add(self, sample: Sample) -> int:
        """Write one sample. Return the size of the shard so far, in bytes."""

    def close(self) -> None:
        """Write the buffered samples and index lines, and close the shard's files."""


class FilesShardWriter:
    """Writer of a shard with one audio file per sample.

    ``index`` takes a sample and the path of its audio file, and returns index lines by the name of the index file. The
    lines of a shard are its part of each index file.
    """

    def __init__(
        self, folder: Path, number: int, suffix: str, index: Callable[[Sample, str], Mapping[str, str]]
    ) -> None:
        self._folder, self._suffix, self._index = folder, suffix, index
        self._audio, self._parts = f"audio/{number:06d}", folder / PARTS / f"{number:06d}"
        self._lines: dict[str, list[str]] = {}
        self._bytes = 0
        (folder / self._audio).mkdir(parents=True)

    def add(self, sample: Sample) -> int:
        path, payload = f"{self._audio}/{sample.key}{self._suffix}", encode_audio(sample, self._suffix)
        (self._folder / path).write_bytes(payload)
        for name, line in self._index(sample, path).items():
            self._lines.setdefault(name, []).append(line + "\n")
        self._bytes += len(payload)
        return self._bytes

    def close(self) -> None:
        self._parts.mkdir(parents=True)
        for name, lines in self._lines.items():
            (self._parts / name).write_bytes(_compress(name, "".join(lines).encode()))


class TarShardWriter:
    """Writer of a shard with one tar of samples.

    ``members`` returns the files of a sample by their names in the tar. ``index`` returns index lines by file path. A
    path below ``PARTS`` is a part of an index file that is joined at the end; any other path is an index file of this
    shard alone.
    """

    def __init__(
        self,
        folder: Path,
        number: int,
        tar_name: str,
        members: Callable[[Sample], Mapping[str, bytes]],
        index: Callable[[Sample], Mapping[str, str]] = lambda _: {},
    ) -> None:
        self._folder, self._members, self._index = folder, members, index
        (folder / tar_name).parent.mkdir(parents=True, exist_ok=True)
        self._tar = tarfile.open(folder / tar_name, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by `close`
        self._lines: dict[str, list[str]] = {}
        self._number = number

    def add(self, sample: Sample) -> int:
        for name, payload in self._members(sample).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(payload), 0o644
            self._tar.addfile(member, io.BytesIO(payload))
        for name, line in self._index(sample).items():
            self._lines.setdefault(name, []).append(line + "\n")
        return int(self._tar.offset)

    def close(self) -> None:
        self._tar.close()
        for name, lines in self._lines.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_compress(name, "".join(lines).encode()))


class ParquetShardWriter:
    """Writer of a shard as one parquet file that contains the audio. Hugging Face ``datasets`` reads this format."""

    ROW_GROUP_BYTES = 64 << 20

    def __init__(self, folder: Path, number: int) -> None:
        path = folder / f"data/train-{number:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, HF_SCHEMA, compression="none")  # FLAC does not compress further
        self._rows: list[dict[str, Any]] = []
        self._group_bytes = self._bytes = 0

    def add(self, sample: Sample) -> int:
        payload = encode_audio(sample, ".flac")
        self._rows.append({"audio": {"bytes": payload, "path": f"{sample.key}.flac"}, **describe_sample(sample)})
        self._group_bytes += len(payload)
        self._bytes += len(payload)
        if self._group_bytes >= self.ROW_GROUP_BYTES:
            self._flush()
        return self._bytes

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, HF_SCHEMA))
        self._rows, self._group_bytes = [], 0


_HF_FIELDS: Mapping[str, pa.DataType] = {
    "text": pa.string(),
    "language": pa.string(),
    "duration": pa.float64(),
    "speaker": pa.string(),
    "video_id": pa.string(),
    "segment": pa.string(),
    "segment_index": pa.int64(),
}
_HF_FEATURES = {
    "audio": {"sampling_rate": SAMPLE_RATE, "_type": "Audio"},
    **{name: {"dtype": str(kind).replace("double", "float64"), "_type": "Value"} for name, kind in _HF_FIELDS.items()},
}
HF_SCHEMA = pa.schema(
    [
        pa.field("audio", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
        *(pa.field(name, kind) for name, kind in _HF_FIELDS.items()),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _HF_FEATURES}})},
)
"""The columns that Hugging Face ``datasets`` reads, with their description for that library."""


def describe_sample(sample: Sample) -> dict[str, Any]:
    """Return the metadata of a sample that all formats but Kaldi's and Lhotse's write; ``duration`` is in seconds."""
    row = sample.row
    return {
        "text": row.text,
        "language": sample.language,
        "duration": sample.duration_s,
        "speaker": row.speaker,
        "video_id": row.video_id,
        "segment": row.segment,
        "segment_index": row.segment_index,
    }


def encode_audio(sample: Sample, suffix: str) -> bytes:
    """Encode the audio of a sample losslessly as 16-bit FLAC or WAV; ``suffix`` is ``.flac`` or ``.wav``."""
    file = io.BytesIO()
    soundfile.write(file, sample.pcm, SAMPLE_RATE, format=suffix[1:].upper(), subtype="PCM_16")
    return file.getvalue()


def open_nemo(folder: Path, number: int) -> ShardWriter:
    """Open a shard for NeMo: FLAC files and ``manifest.jsonl``. Paths in the manifest are relative to the manifest."""
    return FilesShardWriter(
        folder, number, ".flac", lambda sample, path: {"manifest.jsonl": _dump(_nemo_entry(sample, path))}
    )


def open_nemo_tarred(folder: Path, number: int) -> ShardWriter:
    """Open a shard for tarred NeMo datasets: ``audio_N.tar`` and ``sharded_manifests/manifest_N.json``.

    ``tarred_audio_manifest.json`` joins the manifests of all shards; ``shard_id`` is the number of the tar.
    """

    def index(sample: Sample) -> Mapping[str, str]:
        line = _dump({**_nemo_entry(sample, f"{sample.key}.flac"), "shard_id": number})
        part = f"{PARTS}/{number:06d}/tarred_audio_manifest.json"
        return {part: line, f"sharded_manifests/manifest_{number}.json": line}

    def members(sample: Sample) -> Mapping[str, bytes]:
        return {f"{sample.key}.flac": encode_audio(sample, ".flac")}

    return TarShardWriter(folder, number, f"audio_{number}.tar", members, index)


def _nemo_entry(sample: Sample, path: str) -> dict[str, Any]:
    """Return the line of a NeMo manifest for a sample whose audio is at ``path``."""
    described = describe_sample(sample)
    return {"audio_filepath": path, "lang": described.pop("language"), **described}


def open_webdataset(folder: Path, number: int) -> ShardWriter:
    """Open a shard for WebDataset: ``train-NNNNNN.tar`` with a ``.flac``, a ``.txt`` and a ``.json`` per sample."""

    def members(sample: Sample) -> Mapping[str, bytes]:
        return {
            f"{sample.key}.flac": encode_audio(sample, ".flac"),
            f"{sample.key}.txt": sample.row.text.encode(),
            f"{sample.key}.json": _dump(describe_sample(sample)).encode(),
        }

    return TarShardWriter(folder, number, f"train-{number:06d}.tar", members)


def open_lhotse(folder: Path, number: int) -> ShardWriter:
    """Open a shard for Lhotse: FLAC files and ``cuts.jsonl.gz``. Paths are relative to the folder of the export."""

    def index(sample: Sample, path: str) -> Mapping[str, str]:
        return {"cuts.jsonl.gz": _dump(_lhotse_cut(sample, {"type": "file", "channels": [0], "source": path}))}

    return FilesShardWriter(folder, number, ".flac", index)


def open_lhotse_shar(folder: Path, number: int) -> ShardWriter:
    """Open a shard for Lhotse Shar: ``shar/cuts.NNNNNN.jsonl.gz`` and ``shar/recording.NNNNNN.tar``.

    The folder ``shar`` holds no other files.
    """
    placeholder = {"type": "shar", "channels": [0], "source": ""}

    def members(sample: Sample) -> Mapping[str, bytes]:
        recording = _dump(_lhotse_recording(sample, placeholder)) + "\n"
        return {f"{sample.key}.flac": encode_audio(sample, ".flac"), f"{sample.key}.json": recording.encode()}

    def index(sample: Sample) -> Mapping[str, str]:
        return {f"shar/cuts.{number:06d}.jsonl.gz": _dump(_lhotse_cut(sample, placeholder))}

    return TarShardWriter(folder, number, f"shar/recording.{number:06d}.tar", members, index)


def _lhotse_recording(sample: Sample, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lhotse's description of the audio of a sample. ``source`` says where the audio is."""
    return {
        "id": sample.key,
        "sources": [source],
        "sampling_rate": SAMPLE_RATE,
        "num_samples": len(sample.pcm),
        "duration": sample.duration_s,
        "channel_ids": [0],
    }


def _lhotse_cut(sample: Sample, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return Lhotse's cut of a sample: its recording with the transcript as supervision."""
    span = {"start": 0.0, "duration": sample.duration_s, "channel": 0}
    supervision = {
        "id": sample.key, "recording_id": sample.key, **span, "text": sample.row.text, "language": sample.language,
        "speaker": sample.speaker_key,
        "custom": {"video_id": sample.row.video_id, "segment": sample.row.segment},
    }  # fmt: skip
    recording = _lhotse_recording(sample, source)
    return {"id": sample.key, **span, "supervisions": [supervision], "recording": recording, "type": "MonoCut"}


def open_hf_audiofolder(folder: Path, number: int) -> ShardWriter:
    """Open a shard for the loader ``audiofolder`` of Hugging Face ``datasets``: FLAC files and ``metadata.jsonl``."""
    return FilesShardWriter(
        folder,
        number,
        ".flac",
        lambda sample, path: {"metadata.jsonl": _dump({"file_name": path, **describe_sample(sample)})},
    )


def open_kaldi(folder: Path, number: int) -> ShardWriter:
    """Open a shard for Kaldi: WAV files and ``wav.scp``, ``text``, ``utt2spk``, ``utt2dur`` and ``utt2lang``.

    Index lines are in the order of the samples, which ``freeze_selection`` sorts by utterance.
    """

    def index(sample: Sample, path: str) -> Mapping[str, str]:
        key = sample.utterance_key
        return {
            "wav.scp": f"{key} {path}",
            "text": f"{key} {' '.join(sample.row.text.split())}".rstrip(),
            "utt2spk": f"{key} {sample.speaker_key}",
            "utt2dur": f"{key} {sample.duration_s:.4f}",
            "utt2lang": f"{key} {sample.language}",
        }

    return FilesShardWriter(folder, number, ".wav", index)


FORMATS: Mapping[str, Callable[[Path, int], ShardWriter]] = {
    "nemo": open_nemo,
    "nemo-tarred": open_nemo_tarred,
    "lhotse": open_lhotse,
    "lhotse-shar": open_lhotse_shar,
    "hf": ParquetShardWriter,
    "hf-audiofolder": open_hf_audiofolder,
    "webdataset": open_webdataset,
    "kaldi": open_kaldi,
}
"""Per format, a function that opens a shard, given the folder and the number of the shard."""

HOW_TO_READ: Mapping[str, str] = {
    "nemo": "`manifest_filepath: manifest.jsonl`; the paths in it are relative to the manifest",
    "nemo-tarred": "`is_tarred: true`, `tarred_audio_filepaths: audio__OP_0..{last}_CL_.tar`, "
    "`manifest_filepath: tarred_audio_manifest.json`",
    "lhotse": '`CutSet.from_file("cuts.jsonl.gz").with_recording_path_prefix(FOLDER)`',
    "lhotse-shar": '`CutSet.from_shar(in_dir="FOLDER/shar")`',
    "hf": '`datasets.load_dataset("parquet", data_files="FOLDER/data/*.parquet", split="train")`',
    "hf-audiofolder": '`datasets.load_dataset("audiofolder", data_dir=FOLDER, split="train")`',
    "webdataset": '`webdataset.WebDataset("FOLDER/train-{{000000..{last:06d}}}.tar")`',
    "kaldi": "a data folder; the paths in `wav.scp` are relative to it",
}
"""Instruction per format for the data card, in Markdown. ``{last}`` is the number of the last shard with audio."""


def join_parts(folder: Path, shards: int) -> list[Path]:
    """Join the parts of each index file in the order of the shards. Return the joined files, relative to ``folder``."""
    parts = [folder / PARTS / f"{number:06d}" for number in range(shards)]
    names = sorted({path.name for part in parts if part.is_dir() for path in part.iterdir()})
    for name in names:
        with (folder / name).open("wb") as file:
            for part in parts:
                if (part / name).is_file():
                    file.write((part / name).read_bytes())  # concatenated gzip files are a valid gzip file
    return [Path(name) for name in names]


def _compress(name: str, payload: bytes) -> bytes:
    """Compress the content of a file if its name ends with ``.gz``."""
    return gzip.compress(payload, mtime=0) if name.endswith(".gz") else payload


def _dump(entry: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(entry, ensure_ascii=False)

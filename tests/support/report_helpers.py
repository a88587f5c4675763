"""A folder of shards with known values, and tars with matching audio."""

from uuid import uuid4

import numpy as np

from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import SAMPLE_RATE, Column, Video
from validation.models.scorer import Row
from validation.scoring.rules_io import parse_rules
from validation.shards.manifest import describe_shard
from validation.shards.naming import manifest_key, shard_key
from validation.shards.schema import ShardProvenance, shard_schema
from validation.shards.writer import encode_shard

_LID = (
    Column("language", "str", "ISO 639", "Its first choice."),
    Column("declared_p", "float", "probability", "The declared language's."),
)
MODELS = {
    "ear": (*_LID, Column("text", "str", "text", "What it heard.")),
    "nose": _LID,
    "scale": (Column("ovr", "float", "MOS 1-5", "How good it is."),),
}
SCHEMA = shard_schema(MODELS)
RULES_TOML = """
    version = "sample-1"
    required_models = ["ear"]
    [[rules]]
    reason = "noisy"
    verdict = "reject"
    sentence = "It is noise."
    when = [{ column = "scale_ovr", op = "<", value = 2.0 }]
    [[rules]]
    reason = "mismatch"
    verdict = "review"
    sentence = "It says <something> else."
    when = [{ column = "cer", op = ">", value = 0.5 }, { column = "duration_s", op = ">=", value = 1.0 }]
"""
RULES = parse_rules(RULES_TOML, file="sample.toml")


def make_row(
    video_id: str, index: int, *, language="hi", cer=0.1, ovr=3.0, duration_s=2.0, heard=None, **values
) -> Row:
    """One row of a shard, with its verdict by ``RULES``."""
    row: Row = {
        "video_id": video_id, "segment_index": index, "segment": f"segments/{index:06d}", "language": language,
        "language_code": language, "text": f"words {index} <of> {video_id}", "text_normalised": "words",
        "duration_s": duration_s, "cer": cer, "scale_ovr": ovr, "ear_language": heard or language,
        "ear_declared_p": 0.9, "ear_text": "what was heard", "nose_language": language, "nose_declared_p": 0.8,
    } | values  # fmt: skip
    verdict = RULES.evaluate(row)
    return row | {"verdict": verdict.verdict, "reasons": list(verdict.reasons)}


def write_shards(folder, rows, *, number=1, suite="sample") -> None:
    """Write one shard and its manifest with the keys of a results store."""
    provenance = ShardProvenance(
        suite=suite, model_revisions=dict.fromkeys(MODELS, "r1"), rules_version="sample-1", chunk_id=uuid4(),
        worker_id="val-1", flow_run_id=None,
    )  # fmt: skip
    payload, key = encode_shard(rows, SCHEMA, provenance), shard_key("val-1", number)
    videos = [Video(video_id, None, None) for video_id in {row["video_id"] for row in rows}]
    manifest = describe_shard(payload, key, provenance, rows=rows, videos=videos)
    (folder / key).parent.mkdir(parents=True, exist_ok=True)
    (folder / key).write_bytes(payload)
    (folder / manifest_key("val-1", number)).write_bytes(manifest.to_json())


def write_tar(folder, video_id: str, segments: int) -> None:
    """Write a video's tar: tones of half a second."""
    tone = 0.1 * np.sin(np.arange(SAMPLE_RATE // 2, dtype=np.float32))
    tar = pack_video(Video(video_id, "hi", segments), [PackedSegment(tone, f"words {n}") for n in range(segments)])
    (folder / f"{video_id}.tar").write_bytes(tar)


def sample_rows() -> list[Row]:
    """Two languages; noise in every tenth segment, a mismatch in every seventh, and one undecodable segment."""
    rows = [
        make_row(
            f"v{n // 20}",
            n % 20,
            language="hi" if n < 140 else "ta",
            ovr=1.2 if n % 10 == 0 else 2.1 + n / 100,
            cer=0.7 if n % 7 == 0 else 0.3 * (n % 5) / 5,
            duration_s=1.0 + n % 9,
            heard="ur" if n % 25 == 3 else None,
        )
        for n in range(200)
    ]
    unscored = {"duration_s": None, "cer": None, "ovr": None, "ear_declared_p": None, "nose_declared_p": None}
    faults = dict.fromkeys(("fault", "ear_fault", "nose_fault", "scale_fault"), "undecodable: broken")
    return [*rows, make_row("v10", 0, ear_language=None, nose_language=None, **unscored, **faults)]

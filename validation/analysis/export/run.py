"""Run an export: write one shard after the other, record each finished shard, and resume after an interruption."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from obstore.store import ObjectStore

from validation.analysis.export.formats import FORMATS, HOW_TO_READ, PARTS, join_parts
from validation.analysis.export.samples import MissingSample, Sample, read_samples
from validation.analysis.selection.write import disk_errors
from validation.errors import BadInput
from validation.escape import for_markdown, to_json
from validation.files import write_atomically

STATE = ".export/state.json"
"""File with the progress of the export."""
SELECTION = ".export/selection.parquet"
"""File with the frozen list of selected segments."""
STAGING = ".export/staging"
"""Folder of the shard that is being written."""
MISSING = "missing.jsonl"
"""File with the segments that were not exported, and the reasons."""
CHECKSUMS = "checksums.sha256"


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """The inputs and options of an export. A run resumes an export only if its plan equals the stored plan."""

    format: str
    suite: str
    rules_version: str
    """Version of the rules; the name of the selection file if ``selection`` is set."""
    rules_sha256: str
    """SHA-256 of the rules' content, or of the selection file if ``selection`` is set. So plans with different rules or
    files differ even if these have the same name."""
    keep: tuple[str, ...]
    shard_bytes: int
    models: Mapping[str, str]
    license: str
    selection: str | None = None
    """Name of the selection file that is exported; None if the export reads shards and applies rules."""


@dataclass(slots=True)
class ShardRecord:
    """Record of a finished shard in the state file."""

    rows_end: int
    """Number of rows of the frozen list that this shard and all earlier shards cover."""
    segments: int = 0
    bytes: int = 0
    missing: int = 0
    """Number of rows that were not exported (``MissingSample``)."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of audio per language."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of segments per language."""


@dataclass(slots=True)
class ExportState:
    """Progress of an export: the plan, the number of rows to export, and the finished shards."""

    plan: dict[str, object]
    rows: int
    shards: list[ShardRecord] = field(default_factory=list)
    is_complete: bool = False

    @property
    def rows_done(self) -> int:
        """Number of rows of the frozen list that the finished shards cover."""
        return self.shards[-1].rows_end if self.shards else 0

    @property
    def segments(self) -> int:
        return sum(shard.segments for shard in self.shards)

    @property
    def missing(self) -> int:
        return sum(shard.missing for shard in self.shards)

    def seconds(self, language: str | None = None) -> float:
        """Return the exported seconds of audio of a language; None for all languages."""
        return sum(
            seconds for shard in self.shards for name, seconds in shard.seconds.items() if language in {None, name}
        )

    def languages(self) -> list[tuple[str, int, float]]:
        """Return language, number of segments and hours per language, sorted by descending hours."""
        names = {name for shard in self.shards for name in shard.seconds}
        rows = [
            (name, sum(shard.counts.get(name, 0) for shard in self.shards), self.seconds(name) / 3600) for name in names
        ]
        return sorted(rows, key=lambda row: (-row[2], row[0]))


def open_export(folder: Path, plan: ExportPlan, freeze: Callable[[Path], int]) -> ExportState:
    """Start an export in a folder, or read the state of the export that the folder holds already.

    Args:
        folder: the folder of the export; created if missing.
        plan: the inputs and options of the export.
        freeze: writes the list of selected rows to a file and returns the number of rows. It is called only when an
            export starts, not when it is resumed.

    Raises:
        BadInput: the folder holds other files or an export with another plan; no segment is selected; or the list
            cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads(json.dumps(asdict(plan)))
    if (folder / STATE).is_file():
        state = _read_state(folder)
        if differing := [name for name, value in described.items() if state.plan.get(name) != value]:
            name = differing[0]
            raise BadInput(
                f"{folder} holds an export with {name} {state.plan.get(name)!r}, not {described[name]!r}: name another "
                "folder, or delete this one"
            )
        return state
    if any(path.name != ".export" for path in folder.iterdir()):
        raise BadInput(f"{folder} is not empty and holds no export: name another folder")
    (folder / SELECTION).parent.mkdir(exist_ok=True)
    with disk_errors(folder):
        state = ExportState(described, freeze(folder / SELECTION))
        if not state.rows:
            shutil.rmtree(folder / ".export")
            raise BadInput("no segment is selected, so there is nothing to export")
        _write_state(folder, state)
    return state


def run_export(
    folder: Path, state: ExportState, plan: ExportPlan, source: ObjectStore, source_key: str
) -> Iterator[ExportState]:
    """Write the missing shards. Yield the state after each shard, and once more when the export is complete.

    A shard is written to a staging folder. When the shard is finished, its checksums are computed and its files are
    moved to the folder of the export. After an error the finished shards stay, and the next run resumes the export.

    Raises:
        BadInput: the disk is full, the folder is not writable, or the source store refuses this client.
        Transient: the source store cannot be read now.
    """
    if state.is_complete:
        yield state
        return
    samples = read_samples(folder / SELECTION, source, source_key, skip=state.rows_done)
    with disk_errors(folder), closing(samples):
        while state.rows_done < state.rows:
            record = _write_shard(folder, len(state.shards), samples, plan, ShardRecord(state.rows_done))
            state.shards.append(record)
            _write_state(folder, state)
            yield state
        _finish(folder, state, plan)
    yield state


def _write_shard(
    folder: Path, number: int, samples: Iterator[Sample | MissingSample], plan: ExportPlan, record: ShardRecord
) -> ShardRecord:
    """Write samples to a shard until it has ``plan.shard_bytes`` or no sample is left. Return the completed record."""
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    shard, missing = FORMATS[plan.format](staging, number), []
    try:
        for sample in samples:
            record.rows_end += 1
            if isinstance(sample, MissingSample):
                record.missing += 1
                missing.append(_describe_missing(sample))
                continue
            record.bytes = shard.add(sample)
            _count_sample(record, sample)
            if record.bytes >= plan.shard_bytes:
                break
    except BaseException:
        with suppress(OSError):  # report the first error; the next run deletes the staging folder
            shard.close()
        raise
    shard.close()
    if not record.segments:  # none of the remaining rows has audio
        shutil.rmtree(staging)
        staging.mkdir()
    _publish_staged(folder, staging, number, missing)
    return record


def _count_sample(record: ShardRecord, sample: Sample) -> None:
    """Add a sample to the counts of its shard."""
    language = sample.language
    record.segments += 1
    record.counts[language] = record.counts.get(language, 0) + 1
    record.seconds[language] = record.seconds.get(language, 0.0) + sample.duration_s


def _describe_missing(sample: MissingSample) -> str:
    """Return the line of ``missing.jsonl`` for a segment."""
    row = sample.row
    entry = {"video_id": row.video_id, "segment": row.segment, "reason": sample.reason}
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _publish_staged(folder: Path, staging: Path, number: int, missing: list[str]) -> None:
    """Publish one shard of the export: move its files from the staging folder to the export folder.

    The checksums and the list of missing segments are written first.
    """
    parts = staging / PARTS / f"{number:06d}"
    parts.mkdir(parents=True, exist_ok=True)
    files = sorted(path for path in staging.rglob("*") if path.is_file() and parts not in path.parents)
    lines = [f"{hash_file(path)}  {path.relative_to(staging)}\n" for path in files]
    (parts / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
    if missing:
        (parts / MISSING).write_text("".join(missing), encoding="utf-8")
    shutil.rmtree(folder / PARTS / f"{number:06d}", ignore_errors=True)  # left by an attempt that was interrupted here
    for path in sorted(path for path in staging.rglob("*") if path.is_file()):
        target = folder / path.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _finish(folder: Path, state: ExportState, plan: ExportPlan) -> None:
    """Join the index files, write the data card, add their checksums, and mark the export as complete."""
    joined = join_parts(folder, len(state.shards))
    (folder / "README.md").write_text(render_card(state, plan), encoding="utf-8")
    added = sorted({*(path for path in joined if path.name != CHECKSUMS), Path("README.md")})
    with (folder / CHECKSUMS).open("a", encoding="utf-8") as file:
        file.writelines(f"{hash_file(folder / path)}  {path}\n" for path in added)
    state.is_complete = True
    _write_state(folder, state)
    shutil.rmtree(folder / PARTS)
    shutil.rmtree(folder / STAGING, ignore_errors=True)


def render_card(state: ExportState, plan: ExportPlan) -> str:
    """Return the data card as Markdown, with the YAML header that the Hugging Face hub reads."""
    environment = Environment(
        loader=PackageLoader("validation.analysis.export"),
        autoescape=False,  # noqa: S701 - Markdown, not HTML
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["markdown"] = for_markdown
    environment.filters["yaml"] = to_json  # JSON is valid YAML
    how_to_read = HOW_TO_READ[plan.format].format(last=max(sum(shard.segments > 0 for shard in state.shards) - 1, 0))
    return environment.get_template("card.md.j2").render(state=state, plan=plan, how_to_read=how_to_read)


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read_state(folder: Path) -> ExportState:
    content = json.loads((folder / STATE).read_text(encoding="utf-8"))
    content["shards"] = [ShardRecord(**shard) for shard in content["shards"]]
    return ExportState(**content)


def _write_state(folder: Path, state: ExportState) -> None:
    write_atomically(folder / STATE, json.dumps(asdict(state), ensure_ascii=False), durable=True)

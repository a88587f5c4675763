"""Read shards as polars frames, and verify that a stored shard equals the committed one and follows the format.

Readers check the rules of the format, because the code on a compromised box may differ from this code.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from validation.domain import MAX_NUMBER, ColumnType
from validation.errors import BadInput
from validation.scoring.signals import DERIVED_SIGNALS
from validation.shards.manifest import ShardManifest
from validation.shards.schema import (
    AUDIO_PLACE,
    IDENTITY,
    METADATA_KEY,
    NEVER_NEGATIVE,
    NEVER_NULL,
    PROVENANCE_JSON,
    SCHEMA_VERSION,
    ShardCorrupt,
    ShardProvenance,
)
from validation.storage.store import hidden_aws_variables

ShardT = TypeVar("ShardT")
VERDICTS = ("accept", "review", "reject")
_TYPES: Mapping[str, pl.DataType] = {
    "float": pl.Float64(),
    "int": pl.Int64(),
    "str": pl.String(),
    "bool": pl.Boolean(),
}
_REASONS = pl.List(pl.String())
_FILE = "file of the shard"
"""Name of a column with the URI of the shard. No column of a shard has this name."""


def group_shards(shards: Iterable[ShardT], size_of: Callable[[ShardT], int], target: int) -> Iterator[list[ShardT]]:
    """Group consecutive shards, so that each group can be read at once.

    Args:
        shards: the shards to group, in order.
        size_of: returns the size of a shard, in the unit of ``target``.
        target: the minimum size of each group but the last.
    """
    group: list[ShardT] = []
    for shard in shards:
        group.append(shard)
        if sum(map(size_of, group)) >= target:
            yield group
            group = []
    if group:
        yield group


def find_broken_shards(uris: Sequence[str], storage_options: Mapping[str, str] | None = None) -> dict[str, str]:
    """Check shards that have the same columns and types against the rules that ``find_broken_rule`` checks.

    All columns that a rule needs are read once, in a stream.

    Args:
        uris: ``s3://...`` or local paths.
        storage_options: as for ``scan_shards``.

    Returns:
        For each shard that breaks a rule, by its URI: a sentence that says which rule it breaks first.
    """
    with hidden_aws_variables():
        rows = pl.scan_parquet(
            list(uris),
            storage_options=dict(storage_options) if storage_options else None,
            include_file_paths=_FILE,
        )
        schema = rows.collect_schema()
    if problem := find_schema_problem({name: type_ for name, type_ in schema.items() if name != _FILE}):
        return dict.fromkeys(uris, problem)
    found = rows.group_by(_FILE).agg(_rule_checks(schema)).collect(engine="streaming")
    by_file = {row.pop(_FILE): _first_true(row) for row in found.iter_rows(named=True)}
    problems = {uri: by_file.get(uri, "it has no rows") for uri in uris}
    return {uri: problem for uri, problem in problems.items() if problem}


def find_broken_rule(rows: pl.DataFrame) -> str | None:
    """Check the rows of one shard, from ``read_shard``. Return a sentence on the first broken rule, or None.

    The checks are those of ``find_schema_problem``, and: nulls, ranges of numbers, verdicts, reasons and repeated
    segments. Gaps in ``segment_index`` and repeated names of segments are not found.
    """
    if problem := find_schema_problem(rows.schema):
        return problem
    return _first_true(rows.select(_rule_checks(rows.schema)).row(0, named=True))


def find_schema_problem(schema: Mapping[str, pl.DataType]) -> str | None:
    """Compare the columns and their types with the format. Return a sentence on the first difference, or None.

    Only the columns without null must exist. A column that the format does not name, such as a model's, may have any
    of the format's four types.
    """
    known = {column.name: _TYPES[column.type] for column in (*IDENTITY, *DERIVED_SIGNALS)}
    known |= {"verdict": _TYPES["str"], "reasons": _REASONS}
    for name in (*sorted(NEVER_NULL), "reasons"):
        if name not in schema:
            return f"it has no column {name}"
    for name, found in schema.items():
        allowed = [known[name]] if name in known else list(_TYPES.values())
        if found not in allowed:
            return f"column {name} is of type {found}, not {' or '.join(map(str, allowed))}"
    return None


def _rule_checks(schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Return one expression per rule that ``find_broken_rule`` checks: true if any row breaks the rule.

    The name of the expression is the sentence that describes the broken rule.
    """
    segments = pl.struct("video_id", "segment_index")
    rules = {
        "a segment is repeated": segments.n_unique() != pl.len(),
        "segment_index is negative": (pl.col("segment_index") < 0).any(),
        "verdict is none of accept, review and reject": (~pl.col("verdict").is_in(VERDICTS)).any(),
        "reasons are empty for a segment that is not accepted, or not empty for one that is": (
            (pl.col("reasons").list.len() == 0) != (pl.col("verdict") == "accept")
        ).any(),
    }
    for name in (*sorted(NEVER_NULL), "reasons"):
        rules[f"{name} is null"] = pl.col(name).is_null().any()
    for name, type_ in schema.items():
        if type_ == pl.Float64:
            wrong = ~pl.col(name).is_finite() | (pl.col(name).abs() > MAX_NUMBER)
            rules[f"{name} is not a finite number up to {MAX_NUMBER:g}"] = wrong.any()
        if name in NEVER_NEGATIVE:
            rules[f"{name} is negative"] = (pl.col(name) < 0).any()
    return [broken.alias(sentence) for sentence, broken in rules.items()]


def _first_true(row: Mapping[str, object]) -> str | None:
    """Return the name of the first column whose value is true; None if no value is."""
    return next((sentence for sentence, broken in row.items() if broken), None)


def read_shard(source: bytes | Path) -> pl.DataFrame:
    """Read one whole shard, from its bytes or from a local file. Columns that its schema version lacks are null."""
    return _add_missing(pl.read_parquet(BytesIO(source) if isinstance(source, bytes) else source).lazy()).collect()


def scan_shards(uris: Sequence[str], storage_options: Mapping[str, str] | None = None) -> pl.LazyFrame:
    """Open shards of one suite and schema version as one lazy frame. The schema is read from the first shard.

    Columns that their schema version lacks are null.

    Args:
        uris: ``s3://...`` or local paths of committed shards. Take them from the ledger or the catalogue: a listing of
            the bucket may contain shards that were not committed.
        storage_options: credentials and endpoint, as ``polars.scan_parquet`` takes them.

    Raises:
        BadInput: there are no shards to open.
    """
    if not uris:
        raise BadInput("there is no committed shard to read")
    with hidden_aws_variables():  # polars creates its store client when it reads the schema
        return _add_missing(
            pl.scan_parquet(list(uris), storage_options=dict(storage_options) if storage_options else None)
        )


def read_provenance(payload: bytes, key: str) -> ShardProvenance:
    """Read the provenance of a shard. ``key`` is the shard's key for error messages.

    Raises:
        ShardCorrupt: the bytes are not a parquet file, not a shard, or their schema version is newer than this code's.
    """
    return _parse_provenance(pa.BufferReader(payload), key)


def read_file_provenance(path: Path) -> ShardProvenance:
    """Read the provenance of a local file from its footer alone. Raises as ``read_provenance`` does."""
    return _parse_provenance(path, str(path))


def is_shard(path: Path) -> bool:
    """Return whether a local file is a parquet file with the metadata of a shard, of any schema version."""
    try:
        return METADATA_KEY in (pq.read_schema(path).metadata or {})
    except (pa.ArrowInvalid, OSError):
        return False


def verify_shard(payload: bytes, manifest: ShardManifest) -> None:
    """Compare a shard's bytes with its manifest, and check the rules of the format as ``find_broken_rule`` does.

    Size, hash, provenance, number of rows, videos and their numbers of segments are compared.

    Args:
        payload: the parquet file, as read from ``manifest.key``.
        manifest: the manifest of the shard. Its ``sha256`` must already be compared with the ledger's, because a box
            can write a wrong shard with a manifest that fits.

    Raises:
        ShardCorrupt: a property differs, a rule is broken, or the bytes are not a shard. The error has the key, the
            property, and the expected and found values.
    """

    def check(fact: str, expected: object, found: object) -> None:
        if expected != found:
            raise ShardCorrupt(manifest.key, fact, expected=expected, found=found)

    check("size in bytes", manifest.size_bytes, len(payload))
    check("sha256", manifest.sha256, sha256(payload).hexdigest())
    check("provenance", manifest.provenance, read_provenance(payload, manifest.key))
    video_ids = pq.read_table(pa.BufferReader(payload), columns=["video_id"])["video_id"].to_pylist()
    check("rows", manifest.rows, len(video_ids))
    check("broken rule of the format", None, find_broken_rule(read_shard(payload)))
    check("segments by video", {v.video_id: v.segments for v in manifest.videos}, dict(Counter(video_ids)))


MODEL_COLUMNS_OF_2 = {
    "whisper": ("whisper_align_stretch",),
    "silero": ("silero_lead_s", "silero_tail_s", "silero_pause_s"),
    "conformer": (
        "conformer_greedy_tok",
        "conformer_align_window",
        "conformer_first_token_s",
        "conformer_last_token_s",
    ),
}
"""The float columns that schema version 2 added, per model."""
POLARS_TYPES: Mapping[ColumnType, type[pl.DataType]] = {
    "float": pl.Float64,
    "int": pl.Int64,
    "str": pl.String,
    "bool": pl.Boolean,
}


def _add_missing(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Add the columns that a shard of an earlier schema version lacks, as nulls at their places in the schema."""
    names = frame.collect_schema().names()
    own, derived = set(names), [column.name for column in DERIVED_SIGNALS]
    if "margin" in own or not {"verdict", derived[0]} <= own:
        return frame
    models = [name for model, added in MODEL_COLUMNS_OF_2.items() if f"{model}_fault" in own for name in added]
    for name, before in zip(derived[1:], derived, strict=False):
        if name not in own:
            names.insert(names.index(before) + 1, name)
    for name in models:
        if name not in own:
            names.insert(names.index(f"{name.partition('_')[0]}_fault"), name)
    names.insert(names.index("verdict") + 1, "margin")
    if "end_s" in own:
        start = names.index("end_s") + 1
        names[start:start] = [column.name for column in AUDIO_PLACE if column.name not in own]
    kinds = {column.name: POLARS_TYPES[column.type] for column in (*AUDIO_PLACE, *DERIVED_SIGNALS)}
    missing = [pl.lit(None, kinds.get(name, pl.Float64)).alias(name) for name in names if name not in own]
    return frame.with_columns(missing).select(names)


def _parse_provenance(source: pa.BufferReader | Path, key: str) -> ShardProvenance:
    """Read the provenance from the footer of a parquet file. Raises as ``read_provenance`` does."""
    try:
        metadata = pq.read_schema(source).metadata or {}
    except (pa.ArrowInvalid, OSError) as error:  # pyarrow raises OSError for a damaged footer
        raise ShardCorrupt(key, "content", expected="a parquet file", found=str(error)) from None
    try:
        provenance = PROVENANCE_JSON.validate_json(metadata.get(METADATA_KEY, b""))
    except ValidationError:
        raise ShardCorrupt(key, "provenance", expected="a shard's", found=metadata.get(METADATA_KEY)) from None
    if provenance.schema_version > SCHEMA_VERSION:
        known = f"at most {SCHEMA_VERSION}"
        raise ShardCorrupt(key, "schema version", expected=known, found=provenance.schema_version)
    return provenance

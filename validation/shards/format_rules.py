"""The rules of the format, checked when a shard is read: a box in wrong hands may write a file with other code."""

from collections.abc import Mapping, Sequence

import polars as pl

from validation.domain import MAX_NUMBER
from validation.scoring.signals import DERIVED_SIGNALS
from validation.shards.schema import IDENTITY, NEVER_NEGATIVE, NEVER_NULL
from validation.storage.store import hidden_aws_variables

VERDICTS = ("accept", "review", "reject")
_TYPES: Mapping[str, pl.DataType] = {
    "float": pl.Float64(),
    "int": pl.Int64(),
    "str": pl.String(),
    "bool": pl.Boolean(),
}
_REASONS = pl.List(pl.String())
_FILE = "file of the shard"


def find_broken_rules(uris: Sequence[str], storage_options: Mapping[str, str] | None = None) -> dict[str, str]:
    """Check shards of one schema against the rules of the format.

    All columns but the texts are read once, in a stream.

    Args:
        uris: ``s3://...`` or local paths.
        storage_options: as for ``scan_shards``.

    Returns:
        What is wrong with each shard that breaks a rule, by its URI.
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
    found = rows.group_by(_FILE).agg(_broken_rules(schema)).collect(engine="streaming")
    by_file = {row.pop(_FILE): _first_true(row) for row in found.iter_rows(named=True)}
    problems = {uri: by_file.get(uri, "it has no rows") for uri in uris}
    return {uri: problem for uri, problem in problems.items() if problem}


def find_broken_rule(rows: pl.DataFrame) -> str | None:
    """Check the rows of one shard, as ``read_shard`` returns them. Returns the first broken rule."""
    if problem := find_schema_problem(rows.schema):
        return problem
    return _first_true(rows.select(_broken_rules(rows.schema)).row(0, named=True))


def find_schema_problem(schema: Mapping[str, pl.DataType]) -> str | None:
    """Compare the columns and their types with the format. A model's columns may have any of its four types."""
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


def _broken_rules(schema: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """One expression per rule, named by the sentence that describes its breach: true if any row breaks it."""
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
    return next((sentence for sentence, broken in row.items() if broken), None)

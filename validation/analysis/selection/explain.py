"""Why one segment got its verdict: every rule, every comparison, every value."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from validation.errors import BadInput
from validation.scoring.verdict import Condition, Rules


def find_segment(judged: pl.LazyFrame, place: str) -> Mapping[str, Any]:
    """Fetch one segment; of the shards only the row groups of its video are read.

    Args:
        judged: from ``judge_segments``.
        place: ``VIDEO/SEGMENT``, the segment by its name or by its index.

    Raises:
        BadInput: there is no such segment; says what the video has, if anything.
    """
    video_id, _, segment = place.partition("/")
    rows = judged.filter(pl.col("video_id") == video_id).sort("segment_index").collect(engine="streaming")
    for row in rows.iter_rows(named=True):
        if segment in {row["segment"], str(row["segment_index"])}:
            return row
    if rows.is_empty():
        raise BadInput(f"no committed shard holds video {video_id!r}: write VIDEO/SEGMENT")
    names = ", ".join(rows["segment"].head(3))
    raise BadInput(f"video {video_id} has no segment {segment!r}: it has {len(rows)}, from 0, named {names}, ...")


def explain_verdict(row: Mapping[str, Any], rules: Rules) -> Iterator[str]:
    """Tell the verdict, then every rule that fired with its values, then the signals."""
    yield f"{row['video_id']}/{row['segment']} (segment {row['segment_index']}): {row['verdict']} by {rules.version}"
    if row.get("stored_verdict") not in {None, row["verdict"]}:
        yield f"  when it was written: {row['stored_verdict']}"
    fired = [rule for rule in rules.effective if rule.matches(row)]
    for rule in fired:
        yield f"  {rule.verdict}, {rule.reason}: {rule.sentence}"
        yield from (f"    {_tell(condition, row)}" for condition in rule.when)
    yield f"  {len(rules.effective) - len(fired)} other rules have nothing against it"
    for name in sorted(rules.columns):
        yield f"    {name} = {row[name]!r}"
    yield f"  text: {row['text']}"


def _tell(condition: Condition, row: Mapping[str, Any]) -> str:
    limit = "" if condition.value is None else f" {condition.value!r}"
    return f"{condition.column} {condition.op}{limit}: it is {row[condition.column]!r}"

"""Rows of a small suite, with any values that the format allows."""

from uuid import UUID

from hypothesis import strategies as st

from validation.domain import Column
from validation.shards.schema import NEVER_NEGATIVE, ShardProvenance, shard_columns, shard_schema

MODELS = {
    "ear": [
        Column("text", "str", "text", "What it heard."),
        Column("tokens", "int", "tokens", "How many tokens it heard."),
        Column("p", "float", "probability", "How sure it is."),
        Column("sure", "bool", "yes or no", "Whether it would bet on it."),
    ],
    "nose": [Column("ovr", "float", "MOS 1-5", "How good it smells.")],
}
SCHEMA = shard_schema(MODELS)
PROVENANCE = ShardProvenance(
    suite="sample",
    model_revisions={"ear": "e1", "nose": "n1"},
    rules_version="sample-1",
    chunk_id=UUID(int=7),
    worker_id="val-07",
    flow_run_id=UUID(int=8),
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = {
    "float": st.floats(-1e12, 1e12),
    "int": st.integers(-(2**63), 2**63 - 1),
    "str": TEXT,
    "bool": st.booleans(),
}


def make_row(video_id: str, index: int, **values):
    """Return a row with the columns that are never null, and ``values``."""
    return {
        "video_id": video_id,
        "segment_index": index,
        "segment": f"segments/{index:06d}",
        "text": "Hallo, Welt!",
        "text_normalised": "hallo welt",
        "verdict": "accept",
        "reasons": [],
    } | values


def make_video(video_id: str, segments: int, **values):
    return [make_row(video_id, index, **values) for index in range(segments)]


def _values(column: Column) -> st.SearchStrategy:
    return st.floats(0, 1e9) if column.name in NEVER_NEGATIVE else VALUES[column.type]


@st.composite
def shard_rows(draw):
    """Rows of a few videos, in any order, with any value that each column may have."""
    fixed = {"video_id", "segment_index", "segment"}
    columns = [column for column in shard_columns(MODELS) if column.name not in fixed]
    rows = []
    for video_id in draw(st.lists(TEXT, min_size=1, max_size=3, unique=True)):
        for row in make_video(video_id, draw(st.integers(1, 3))):
            optional = {c.name: draw(st.none() | _values(c)) for c in columns if c.name not in row}
            needed = {c.name: draw(VALUES[c.type]) for c in columns if c.name in row}
            rows.append(row | optional | needed | {"reasons": draw(st.lists(TEXT, max_size=3))})
    return draw(st.permutations(rows))


def in_order(rows):
    """Rows as a shard holds them: sorted, with every column."""
    ordered = sorted(rows, key=lambda row: (row["video_id"], row["segment_index"]))
    return [{name: row.get(name) for name in SCHEMA.names} for row in ordered]

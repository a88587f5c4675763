"""A label that is no language is told before any model is asked."""

import pyarrow.parquet as pq
import pytest

from tests.support.ledger_helpers import fetch, statuses
from validation.storage.store import get_bytes
from validation.worker.chunk.context import run_chunk


@pytest.mark.parametrize(
    ("language", "heard", "reasons"), [("klingonish", 0, {"unknown_language"}), ("Hindi", 2, set()), (None, 2, set())]
)
def test_models_hear_no_segment_of_an_unknown_language(box, tmp_path, language, heard, reasons):
    """Its video is validated without an attempt of the models, and each of its segments has the reason."""
    box.add_videos("a", language=language)
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated"}
    assert box.scorer.heard == heard
    ((key,),) = fetch(box.engine, "SELECT shard_key FROM validation_shards")
    (tmp_path / "shard.parquet").write_bytes(get_bytes(box.context.results, key))
    rows = pq.read_table(tmp_path / "shard.parquet", columns=["reasons"]).to_pylist()
    assert {reason for row in rows for reason in row["reasons"]} == reasons

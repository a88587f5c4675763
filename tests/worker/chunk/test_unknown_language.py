"""Segments whose label is no language, or one that no model of the suite knows."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from tests.support.ledger_helpers import fetch, statuses
from validation.storage.store import get_bytes
from validation.worker.chunk.context import run_chunk


@pytest.mark.parametrize(
    ("language", "scored", "reasons"),
    [
        ("klingonish", 0, {"unknown_language"}),
        ("tlh", 0, {"unsupported_language"}),
        ("bho", 2, set()),
        ("Hindi", 2, set()),
        (None, 2, set()),
    ],
)
def test_models_score_no_segment_of_an_unknown_language(box, tmp_path, language, scored, reasons):
    """Its video is validated without an attempt of the models, and each of its segments has the reason.

    A lect counts as the language that a model folds it into: Bhojpuri as Hindi.
    """
    box.scorer.roles = replace(box.scorer.roles, known_languages=("hi", "mr"))
    box.add_videos("a", language=language)
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated"}
    assert box.scorer.scored == scored
    ((key,),) = fetch(box.engine, "SELECT shard_key FROM validation_shards")
    (tmp_path / "shard.parquet").write_bytes(get_bytes(box.context.results, key))
    rows = pq.read_table(tmp_path / "shard.parquet", columns=["reasons"]).to_pylist()
    assert {reason for row in rows for reason in row["reasons"]} == reasons

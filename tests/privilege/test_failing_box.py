"""When the ledger quarantines a box that fails videos: a thief, and no honest box that meets broken tars."""

import pytest

from tests.support.box_decisions import fail, validate
from tests.support.ledger_helpers import claim, execute, fetch
from validation.control.witness import witness_failures
from validation.errors import Permanent
from validation.ledger.canaries import clear_quarantine
from validation.ledger.queries import read_view
from validation.ledger.rpc import WorkerQuarantined

pytestmark = pytest.mark.attack


def repeat_decisions(ledger, name: str, count: int) -> None:
    """As if the box had decided the same about ``count`` further videos of the same language."""
    execute(
        ledger,
        "INSERT INTO validation.box_decisions (worker_id, owner, chunk_id, video_id, kind, cost, refuted_at)"
        " SELECT d.worker_id, d.owner, d.chunk_id, d.video_id, d.kind, d.cost, d.refuted_at"
        " FROM validation.box_decisions d, generate_series(1, :count) WHERE d.worker_id = :name LIMIT :count",
        name=name, count=count,
    )  # fmt: skip


def finding(ledger, name: str) -> str | None:
    (row,) = [row for row in read_view(ledger, "worker_liveness") if row["worker_id"] == name]
    return row["quarantine_reason"]


@pytest.mark.parametrize("others_fail", [False, True])
def test_box_that_fails_what_others_do_not_is_quarantined(ledger, boxes, others_fail):
    """By its hundredth failure; not if other boxes fail as much, because the cause is then not the box."""
    open_chunk = claim(boxes["ann"], worker_id="ann", size=2)
    (fail if others_fail else validate)(boxes["bob"], "bob", size=10)
    fail(boxes["ann"], "ann", size=5, transient=True, charged=False)
    repeat_decisions(ledger, "ann", 94)
    assert finding(ledger, "ann") is None
    fail(boxes["ann"], "ann", size=1)
    if others_fail:
        assert claim(boxes["ann"], worker_id="ann").videos
        return
    with pytest.raises(WorkerQuarantined):
        claim(boxes["ann"], worker_id="ann")
    assert fetch(ledger, "SELECT state FROM validation_chunks WHERE chunk_id = :c", c=open_chunk.chunk_id) == [
        ("released",)
    ]
    assert "it failed 100 videos and validated 0 within an hour" in finding(ledger, "ann")
    assert claim(boxes["bob"], worker_id="bob", size=1).videos
    clear_quarantine(ledger, "ann")
    fail(boxes["ann"], "ann", size=1)
    assert claim(boxes["ann"], worker_id="ann").videos


def test_box_that_alone_works_on_broken_tars_is_not_quarantined(ledger, boxes):
    """Others validate another language: that says nothing about the videos of this box."""
    execute(ledger, "UPDATE video_queue SET language = 'ta' WHERE video_id < 'v0010'")
    validate(boxes["bob"], "bob", size=20, languages=("hi",))
    fail(boxes["ann"], "ann", size=5, languages=("ta",))
    repeat_decisions(ledger, "ann", 200)
    fail(boxes["ann"], "ann", size=1, languages=("ta",))
    assert finding(ledger, "ann") is None


@pytest.mark.parametrize(("is_torn", "is_common"), [(False, False), (True, False), (False, True)])
def test_control_plane_judges_failures_that_no_other_box_meets(ledger, boxes, is_torn, is_common):
    """A box is quarantined by twenty failures that the control plane refutes; not by those that it confirms, nor where
    it refutes another box as often, because the objects came late."""
    execute(ledger, "UPDATE video_queue SET language = 'ta' WHERE video_id < 'v0020'")

    def read(video):
        if is_torn:
            raise Permanent("it is torn")

    if is_common:
        fail(boxes["bob"], "bob", size=20, languages=("hi",))
    fail(boxes["ann"], "ann", size=19, languages=("ta",))
    witness_failures(ledger, read)
    assert finding(ledger, "ann") is None
    fail(boxes["ann"], "ann", size=1, languages=("ta",))
    witness_failures(ledger, read)
    quarantined = not is_torn and not is_common
    assert (finding(ledger, "ann") is not None) == quarantined
    if quarantined:
        assert finding(ledger, "ann").endswith(
            "the control plane refuted 20 of its failures within a day and confirmed 0"
        )

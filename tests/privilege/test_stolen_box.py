"""What a stolen box, with its login and its key, decides about videos: limited, noticed and taken back."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.box_decisions import fail, validate
from tests.support.ledger_helpers import claim, execute, expire, fetch, shard, statuses
from validation.control.dispatch import count_claimable_chunks
from validation.control.witness import witness_failures
from validation.domain import VideoFailure
from validation.errors import Permanent
from validation.ledger.boxes import undo_box
from validation.ledger.chunks import commit_chunk
from validation.ledger.maintenance import Requeue, requeue_videos, sweep_stale_claims
from validation.ledger.queries import audit_ledger, read_workload
from validation.ledger.rpc import LedgerRefused

pytestmark = pytest.mark.attack
QUEUE = (
    "SELECT video_id, validation_status, validation_attempts, validation_crashes, validation_losses,"
    " validation_not_before, validation_error, validation_witness FROM video_queue ORDER BY video_id"
)


def crash(ledger, engine, name):
    chunk = claim(engine, worker_id=name, size=1)
    expire(ledger, chunk.chunk_id)
    sweep_stale_claims(ledger)


def test_failure_by_one_box_is_not_final(ledger, boxes):
    """The video stays for other boxes and not for this one; it fails when a second box fails it too."""
    fail(boxes["ann"], "ann")
    assert set(statuses(ledger).values()) == {"pending"}
    assert claim(boxes["ann"], worker_id="ann") is None
    chunk = claim(boxes["bob"], worker_id="bob")
    (torn, *good) = [video.video_id for video in chunk.videos]
    commit_chunk(
        boxes["bob"], chunk.chunk_id, shard=shard(of=chunk), validated=dict.fromkeys(good, 1),
        failed=[VideoFailure(torn, "it is torn", transient=False)], max_attempts=3,
    )  # fmt: skip
    assert statuses(ledger) == {torn: "validation_failed"} | dict.fromkeys(good, "validated")
    assert [check for check in audit_ledger(ledger) if check.violations] == []


def test_transient_failures_of_one_box_make_no_failure_final(ledger, boxes):
    """However often it puts a video off: the attempts that it adds end in no failure of a first honest box."""
    for _ in range(3):
        fail(boxes["ann"], "ann", transient=True)
        execute(ledger, "UPDATE video_queue SET validation_not_before = 'epoch'")
    assert set(statuses(ledger).values()) == {"pending"}
    requeue_videos(ledger, Requeue())
    execute(ledger, "UPDATE video_queue SET validation_attempts = 2, validation_witness = NULL")
    fail(boxes["bob"], "bob", transient=True)
    assert set(statuses(ledger).values()) == {"pending"}


def test_two_boxes_of_one_host_are_one_witness(ledger, boxes):
    """The owner of the host of rented machines reads the keys of all boxes on it."""
    execute(
        ledger,
        "INSERT INTO fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, changed_at)"
        " VALUES ('f', 'f/', 2, 1, 1, '{}', now())",
    )
    for slot, name in enumerate(boxes, start=1):
        execute(
            ledger,
            "INSERT INTO fleet_instances (label, fleet, slot, worker_id, state, offer_id, machine_id, host_id,"
            " gpu_name, usd_per_hour, usd_once, boot_timeout_s, instance_id, requested_at, changed_at, accepted_at)"
            " VALUES (:label, 'f', :slot, :name, 'working', :slot, :slot, 7, 'g', 1, 1, 1, :slot, now(), now(), now())",
            label=f"f/{slot}", slot=slot, name=name,
        )  # fmt: skip
        execute(ledger, "UPDATE validation.box_keys SET label = :l WHERE worker_id = :n", l=f"f/{slot}", n=name)
    fail(boxes["ann"], "ann")
    assert claim(boxes["bob"], worker_id="bob") is None
    assert set(statuses(ledger).values()) == {"pending"}


def test_crashes_under_one_box_fail_no_video(ledger, boxes):
    """A box that lets its runs die three times needs another box's crash; if no other is online, its word stands."""
    execute(ledger, "DELETE FROM video_queue WHERE video_id <> 'v0000'")
    for _ in range(3):
        crash(ledger, boxes["ann"], "ann")
    assert statuses(ledger) == {"v0000": "pending"}
    assert claim(boxes["ann"], worker_id="ann") is None
    crash(ledger, boxes["bob"], "bob")
    assert statuses(ledger) == {"v0000": "validation_failed"}
    requeue_videos(ledger, Requeue())
    execute(ledger, "DELETE FROM validation.box_decisions")
    execute(ledger, "UPDATE worker_validators SET status = 'offline' WHERE worker_id = 'bob'")
    for _ in range(3):
        crash(ledger, boxes["ann"], "ann")
    assert statuses(ledger) == {"v0000": "validation_failed"}


@pytest.mark.parametrize(("is_torn", "status"), [(True, "validation_failed"), (False, "pending")])
def test_control_plane_is_the_second_witness(ledger, boxes, is_torn, status):
    """It reads the object: what it cannot read either has failed; else only another box decides."""

    def read(video):
        if is_torn:
            raise Permanent(f"{video.video_id} is torn")

    fail(boxes["ann"], "ann", size=2)
    settled = witness_failures(ledger, read)
    assert [failure.is_confirmed for failure in settled] == [is_torn] * 2
    assert [statuses(ledger)[failure.video_id] for failure in settled] == [status] * 2
    assert witness_failures(ledger, read) == []
    assert [check for check in audit_ledger(ledger) if check.violations] == []


def test_video_that_waits_for_a_witness_is_no_work_for_a_lone_box(ledger, boxes):
    """Dispatch would create runs for it without end, and the fleet would never be empty."""
    fail(boxes["ann"], "ann")
    assert read_workload(ledger).claimable_videos == 40
    execute(ledger, "UPDATE worker_validators SET status = 'offline' WHERE worker_id = 'bob'")
    assert read_workload(ledger).claimable_videos == 0


def test_crashed_video_that_waits_for_a_witness_is_no_work_for_a_lone_box(ledger, boxes):
    """Its chunk of one counts neither, or a run without a chunk would be created at each dispatch."""
    execute(ledger, "DELETE FROM video_queue WHERE video_id <> 'v0000'")
    for _ in range(3):
        crash(ledger, boxes["ann"], "ann")
    assert count_claimable_chunks(read_workload(ledger), 50) == 1
    execute(ledger, "UPDATE worker_validators SET status = 'offline' WHERE worker_id = 'bob'")
    assert count_claimable_chunks(read_workload(ledger), 50) == 0


def test_box_claims_at_most_two_thousand_videos_that_come_to_nothing(ledger, boxes):
    """Held, given back, failed or put off within an hour; or four times what the best other box validated."""
    fail(boxes["ann"], "ann", size=10)
    execute(ledger, "UPDATE validation_chunks SET videos_claimed = 1995")
    assert len(claim(boxes["ann"], worker_id="ann").videos) == 5
    with pytest.raises(LedgerRefused, match="came to nothing, the limit is 2000"):
        claim(boxes["ann"], worker_id="ann")
    validate(boxes["bob"], "bob", size=10)
    execute(ledger, "UPDATE validation_chunks SET videos_claimed = 502, videos_validated = 502 WHERE worker_id = 'bob'")
    assert len(claim(boxes["ann"], worker_id="ann").videos) == 8


def test_one_command_takes_back_what_a_box_decided(ledger, boxes):
    """Failures, back-offs, attempts, crashes and commits of the period; a dry run changes nothing."""
    before = fetch(ledger, QUEUE)
    fail(boxes["ann"], "ann", size=5)
    fail(boxes["ann"], "ann", size=5, transient=True)
    fail(boxes["ann"], "ann", size=5, transient=True, charged=False)
    validate(boxes["ann"], "ann", size=5)
    crash(ledger, boxes["ann"], "ann")
    harmed = fetch(ledger, QUEUE)
    found = {row.decision: row.videos for row in undo_box(ledger, "ann", since_s=3600, dry_run=True)}
    assert found == {"failed": 5, "postponed": 10, "validated": 5, "crash": 1}
    assert fetch(ledger, QUEUE) == harmed
    undo_box(ledger, "ann", since_s=3600)
    assert fetch(ledger, QUEUE) == before
    assert undo_box(ledger, "ann", since_s=3600) == []


def test_undo_leaves_older_decisions_and_those_of_other_boxes(ledger, boxes):
    """Only the period and the box that are named."""
    fail(boxes["ann"], "ann", size=5)
    execute(ledger, "UPDATE validation.box_decisions SET decided_at = now() - interval '3 hours'")
    fail(boxes["bob"], "bob", size=3, transient=True)
    harmed = fetch(ledger, QUEUE)
    assert undo_box(ledger, "ann", since_s=7200) == []
    assert fetch(ledger, QUEUE) == harmed


def test_transaction_claims_once(ledger, seed):
    """A claim, a release and a claim in one open transaction would lock every row of the queue."""
    seed(4)
    call = "SELECT validation.claim_chunk(gen_random_uuid(), 'ann', NULL, 1, NULL, 60, 'local')"
    with ledger.begin() as connection:
        connection.execute(text(call))
        connection.execute(text("SELECT validation.release_chunk(chunk_id, 'x') FROM validation_chunks"))
        with pytest.raises(DBAPIError, match="has claimed in this transaction"):
            connection.execute(text(call))

"""Canaries: which box is quarantined, until when, and which of its results are listed."""

import pytest

from tests.support.ledger_helpers import claim, execute, fetch, statuses
from tests.support.result_helpers import ONE, validate, violated_invariants
from validation.domain import ShardReceipt, Video, WorkerProfile
from validation.ledger.boxes import issue_box_key
from validation.ledger.canaries import (
    KnownAnswer,
    clear_quarantine,
    insert_canaries,
    read_canary_results,
    read_pending_canaries,
    read_quarantined_shards,
    read_quarantined_workers,
    record_canary_result,
    sample_videos,
)
from validation.ledger.maintenance import Requeue, compact_shards, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.ledger.rpc import WorkerQuarantined
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker
from validation.shards.naming import shard_key

RIGHT = (KnownAnswer("accept", {"ear_peak": 0.5}),)


@pytest.fixture
def add_canaries(ledger, seed):
    """Enter canaries `c0, c1, ...` and as many ordinary videos."""

    def enter(count: int) -> None:
        seed(count)
        names = [f"c{n}" for n in range(count)]
        insert_canaries(ledger, "tiny", {"ear": "1", "nose": "1"}, dict.fromkeys(names, RIGHT), basis={})
        seed_videos(ledger, [Video(name, "hi", 1) for name in names])

    return enter


def evaluate(ledger, outcome="wrong"):
    """Record this outcome for every committed canary."""
    for canary in read_pending_canaries(ledger):
        record_canary_result(ledger, canary, outcome, None if outcome == "right" else "segment 0: ear_peak is 0.1")


def make_claimable(ledger, *videos):
    """Make these pending videos claimable and no others."""
    execute(
        ledger,
        "UPDATE video_queue SET validation_not_before = CASE WHEN video_id = ANY (:v) THEN 'epoch'::timestamptz "
        "ELSE 'infinity' END WHERE validation_status = 'pending'",
        v=list(videos),
    )


def rent(ledger, label, worker="val-1"):
    """Rent a box for a worker id, and register its worker."""
    execute(ledger, "INSERT INTO fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, "
            "changed_at) VALUES ('f', 'f/', 1, 9, 9, '{}', now()) ON CONFLICT DO NOTHING")  # fmt: skip
    execute(
        ledger,
        "UPDATE fleet_instances SET state = 'gone', reason = 'drained', closed_at = now(), billed_until = now() WHERE worker_id = :w",
        w=worker,
    )
    execute(
        ledger,
        "INSERT INTO fleet_instances (label, fleet, slot, worker_id, state, offer_id, machine_id, host_id, gpu_name, "
        "usd_per_hour, usd_once, boot_timeout_s, instance_id, requested_at, changed_at, accepted_at) VALUES "
        "(:l, 'f', 1, :w, 'working', 1, 1, 1, 'g', 1, 0, 1, hashtext(:l), now(), now(), now())",
        l=label, w=worker,
    )  # fmt: skip
    issue_box_key(ledger, worker, label=label)
    register_worker(ledger, WorkerProfile(worker, config={"instance": worker}))


def test_quarantined_worker_neither_claims_nor_registers(ledger, add_canaries):
    """Both calls are refused with the reason; its shards are listed; other workers are not affected."""
    add_canaries(2)
    validate(ledger, "one", size=4)
    evaluate(ledger)
    with pytest.raises(WorkerQuarantined, match="ann is quarantined"):
        claim(ledger, worker_id="ann")
    with pytest.raises(WorkerQuarantined):
        register_worker(ledger, WorkerProfile("ann", config={"instance": "ann-1"}))
    assert claim(ledger, worker_id="bob") is None
    assert [(s.known_as, s.shard_key, s.videos) for s in read_quarantined_shards(ledger)] == [("ann", ONE, 4)]


def test_cleared_quarantine_returns_with_the_next_wrong_canary(ledger, add_canaries):
    """Earlier wrong canaries no longer count; later ones do."""
    add_canaries(1)
    validate(ledger, "one", size=1)
    validate(ledger, "two", size=1)
    evaluate(ledger)
    assert clear_quarantine(ledger, "bob") == 0
    assert clear_quarantine(ledger, "ann") == 1
    assert clear_quarantine(ledger, "ann") == 0
    assert read_quarantined_workers(ledger) == []
    requeue_videos(ledger, Requeue(worker_id="ann"))
    validate(ledger, "three", size=2)
    evaluate(ledger)
    assert [worker.wrong for worker in read_quarantined_workers(ledger)] == [1]


def test_canary_is_evaluated_once_per_chunk(ledger, add_canaries):
    """Repeating an evaluation changes nothing; a canary that was committed again is evaluated again."""
    add_canaries(1)
    validate(ledger, "one", size=2)
    (waiting,) = read_pending_canaries(ledger)
    assert (waiting.answers, waiting.is_comparable, waiting.error) == (RIGHT, True, None)
    record_canary_result(ledger, waiting, "right", None)
    record_canary_result(ledger, waiting, "wrong", "no")
    assert read_pending_canaries(ledger) == []
    requeue_videos(ledger, Requeue(["c0"]))
    assert read_pending_canaries(ledger) == []
    validate(ledger, "two", worker_id="bob")
    evaluate(ledger)
    found = {(row.worker_id, row.outcome) for row in read_canary_results(ledger)}
    assert found == {("ann", "right"), ("bob", "wrong")}


def test_next_box_of_a_worker_id_is_not_quarantined(ledger, add_canaries):
    """The next box in the slot works, and only the first box's videos are requeued."""
    add_canaries(2)
    rent(ledger, "f/1/first")
    make_claimable(ledger, "c0", "v0000")
    validate(ledger, "first", worker_id="val-1")
    evaluate(ledger)
    with pytest.raises(WorkerQuarantined):
        claim(ledger, worker_id="val-1")
    assert [(w.known_as, w.is_current) for w in read_quarantined_workers(ledger)] == [("f/1/first", True)]

    rent(ledger, "f/1/second")
    assert [(w.known_as, w.is_current) for w in read_quarantined_workers(ledger)] == [("f/1/first", False)]
    make_claimable(ledger, "c1", "v0001")
    validate(ledger, "second", worker_id="val-1")
    evaluate(ledger, "right")
    assert {shard.shard_key for shard in read_quarantined_shards(ledger)} == {shard_key("val-1", 1)}
    requeue_videos(ledger, Requeue(worker_id="f/1/first"))
    assert {video for video, status in statuses(ledger).items() if status == "pending"} == {"c0", "v0000"}
    assert (clear_quarantine(ledger, "f/1/second"), clear_quarantine(ledger, "f/1/first")) == (0, 1)


@pytest.mark.parametrize(("wrong", "right", "excused"), [(2, 1, False), (3, 6, True), (3, 7, False), (4, 5, True)])
def test_many_wrong_boxes_are_excused(ledger, add_canaries, wrong, right, excused):
    """If three boxes and over 30 % of the evaluated ones are wrong, the canaries are wrong, and no box is
    quarantined."""
    add_canaries(wrong + right)
    for n in range(wrong + right):
        register_worker(ledger, WorkerProfile(f"w{n}", config={"instance": f"w{n}"}))
        make_claimable(ledger, f"c{n}")
        validate(ledger, f"s{n}", worker_id=f"w{n}")
        evaluate(ledger, "wrong" if n < wrong else "right")
    assert {worker.is_excused for worker in read_quarantined_workers(ledger)} == {excused}
    if excused:
        assert claim(ledger, worker_id="w0") is None
        assert read_quarantined_shards(ledger) == []
    else:
        with pytest.raises(WorkerQuarantined):
            claim(ledger, worker_id="w0")


def test_boxes_of_other_days_do_not_count_for_the_excuse(ledger, add_canaries):
    """Boxes that were right days ago may have had other canaries."""
    add_canaries(12)
    for n in range(12):
        register_worker(ledger, WorkerProfile(f"w{n}", config={"instance": f"w{n}"}))
        make_claimable(ledger, f"c{n}")
        validate(ledger, f"s{n}", worker_id=f"w{n}")
        evaluate(ledger, "right" if n < 9 else "wrong")
        if n == 6:
            assert read_quarantined_workers(ledger) == []
            execute(ledger, "UPDATE validation.canary_evaluations SET evaluated_at = now() - interval '3 days'")
    assert [worker.is_excused for worker in read_quarantined_workers(ledger)] == [True] * 3
    assert claim(ledger, worker_id="w11") is None

    execute(ledger, "UPDATE validation.canary_evaluations SET evaluated_at = evaluated_at - interval '2 days' "
            "WHERE video_id = 'c11'")  # fmt: skip
    assert {worker.worker_id: worker.is_excused for worker in read_quarantined_workers(ledger)} == {
        "w9": False, "w10": False, "w11": False,
    }  # fmt: skip


def requeue_lacking(model, revision=None):
    """The condition for videos that lack the answers of a model."""
    return Requeue(lacking={model: revision})


def test_results_of_a_quarantined_box_are_found_below_later_ones(ledger, add_canaries):
    """A wrote the whole suite and B added one model: A's other answers are still current, so they are listed and
    requeued."""
    add_canaries(2)
    validate(ledger, "whole", size=4)
    evaluate(ledger)
    requeue_videos(ledger, requeue_lacking("nose", "2"))
    validate(ledger, "part", models={"nose": "2"}, worker_id="bob")
    (named,) = read_quarantined_shards(ledger)
    assert (named.known_as, named.worker_id, named.videos) == ("ann", "ann", 4)

    big = ShardReceipt("shards/big", "b" * 64, 1000, 12, "tiny", models={"ear": "1", "nose": "1"})
    videos = dict.fromkeys(("c0", "c1", "v0000", "v0001"), 3)
    compact_shards(ledger, big, sources=[named.shard_key], videos=videos)
    assert read_quarantined_shards(ledger) == [named]
    requeue_videos(ledger, Requeue(worker_id="ann"))
    assert set(statuses(ledger).values()) == {"pending"}
    assert read_quarantined_shards(ledger) == []

    validate(ledger, "again", worker_id="bob")
    assert read_quarantined_shards(ledger) == []
    assert requeue_videos(ledger, Requeue(worker_id="ann")) == []


def test_results_replaced_by_later_revisions_are_not_listed(ledger, add_canaries):
    """Later revisions have answers of all of A's models, so no answer of A is read and none is listed."""
    add_canaries(1)
    validate(ledger, "whole")
    evaluate(ledger)
    for name, models in (("ears", {"ear": "2"}), ("noses", {"nose": "2"})):
        assert len(read_quarantined_shards(ledger)) == 1
        requeue_videos(ledger, requeue_lacking(*models, *models.values()))
        validate(ledger, name, models=models, worker_id="bob")
    assert read_quarantined_shards(ledger) == []
    assert requeue_videos(ledger, Requeue(worker_id="ann")) == []


def test_open_chunks_of_a_quarantined_box_are_released(ledger, add_canaries):
    """No attempt is lost, its counters are right, and other workers' chunks are left alone."""
    add_canaries(3)
    validate(ledger, "one", size=4)
    held, others = claim(ledger, size=1), claim(ledger, worker_id="bob", size=1)
    evaluate(ledger)
    states = dict(fetch(ledger, "SELECT chunk_id, state FROM validation_chunks"))
    assert (states[held.chunk_id], states[others.chunk_id]) == ("released", "open")
    assert fetch(
        ledger, "SELECT validation_attempts FROM video_queue WHERE video_id = :v", v=held.videos[0].video_id
    ) == [(0,)]
    assert violated_invariants(ledger) == []


def test_queued_video_never_becomes_a_canary(ledger, add_canaries):
    """An id that is in the queue is left alone, and no canary is made like another canary."""
    add_canaries(2)
    assert insert_canaries(ledger, "tiny", {}, {"v0000": RIGHT, "c9": RIGHT}, basis={}) == {"c9"}
    assert {video.video_id for video in sample_videos(ledger, ["hi"], 10)} == {"v0000", "v0001"}


def test_canaries_are_withheld_from_readers(ledger, add_canaries):
    """They are withheld, and not superseded: a compaction keeps them."""
    add_canaries(1)
    validate(ledger, "one")
    (shard,) = read_committed_shards(ledger)
    assert (list(shard.withheld), list(shard.superseded)) == (["c0"], [])

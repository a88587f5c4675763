"""Requeueing: which videos return to the queue, and which results stay current meanwhile."""

import pytest

from tests.support.ledger_helpers import claim, execute, fetch, statuses
from tests.support.result_helpers import NEW, OLD, ONE, TWO, current, validate, violated_invariants
from validation.ledger.chunks import release_chunk
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards, read_suite_revisions


def test_requeued_failures_have_no_attempts(ledger, seed):
    """Only the named failures are requeued, with attempts and crashes at zero."""
    seed(2)
    execute(
        ledger,
        "UPDATE video_queue SET validation_status = 'validation_failed', validation_error = 'x', validation_crashes = 3, validation_attempts = 2",
    )
    (back,) = requeue_videos(ledger, Requeue(["v0000"], status="validation_failed"))
    assert (back.language, back.status, back.videos) == ("hi", "validation_failed", 1)
    assert fetch(
        ledger,
        "SELECT validation_crashes, validation_attempts, validation_error FROM video_queue WHERE validation_status = 'pending'",
    ) == [(0, 0, None)]


def test_requeue_dry_run_counts_and_changes_nothing(ledger, seed):
    """A dry run reports the counts of the real run."""
    seed(5)
    validate(ledger, "one")
    told = requeue_videos(ledger, Requeue(), dry_run=True)
    assert set(statuses(ledger).values()) == {"validated"}
    assert requeue_videos(ledger, Requeue()) == told
    assert set(statuses(ledger).values()) == {"pending"}


def test_claimed_or_pending_videos_are_not_requeued(ledger, seed):
    """A holder keeps its claim, and a back-off its time."""
    seed(4)
    claim(ledger, size=2)
    assert requeue_videos(ledger, Requeue()) == []
    assert sorted(statuses(ledger).values()) == ["pending", "pending", "validating", "validating"]


def test_results_of_a_requeued_video_stay_current_until_the_next_commit(ledger, seed):
    """Readers find every video in exactly one shard before, between and after; the old shard keeps the rest."""
    seed(4)
    validate(ledger, "one")
    requeue_videos(ledger, Requeue(["v0001", "v0002"]))
    assert set(current(ledger).values()) == {ONE}

    validate(ledger, "two")
    standing = {video: key for (video, _, _), key in current(ledger).items()}
    assert standing == {"v0000": ONE, "v0001": TWO, "v0002": TWO, "v0003": ONE}
    assert violated_invariants(ledger) == []


def test_shard_without_current_results_is_retired(ledger, seed):
    """It leaves the readers' list and stays in the ledger."""
    seed(2)
    validate(ledger, "one")
    requeue_videos(ledger, Requeue())
    validate(ledger, "two")
    assert [found.shard_key for found in read_committed_shards(ledger)] == [TWO]
    assert fetch(ledger, "SELECT shard_key FROM validation.retired_shards") == [(ONE,)]
    assert violated_invariants(ledger) == []


def test_results_of_two_revisions_are_both_current(ledger, seed):
    """Each revision has its shard, and the ledger knows the models of each."""
    seed(2)
    validate(ledger, "one")
    requeue_videos(ledger, Requeue())
    validate(ledger, "two", models=NEW)
    assert [(made.models, made.videos, made.segments) for made in read_suite_revisions(ledger)] == [
        (OLD, 2, 6),
        (NEW, 2, 6),
    ]
    assert len(current(ledger)) == 4


def revisions(engine):
    return {tuple(made.models.items()): made.revision for made in read_suite_revisions(engine)}


@pytest.fixture
def mixed(ledger, seed):
    """Two videos in Hindi of the old revision by ann, two in Tamil of the new by bob, and one that failed."""
    seed(2, language="hi", prefix="h")
    validate(ledger, "one")
    seed(2, language="ta", prefix="t")
    validate(ledger, "two", models=NEW, worker_id="bob")
    seed(1, language="ta", prefix="x")
    execute(
        ledger,
        "UPDATE video_queue SET validation_status = 'validation_failed', validation_error = 'x' WHERE video_id = 'x0000'",
    )
    return ledger


CHOICES = {
    "everything": (lambda _: Requeue(), {"h0000", "h0001", "t0000", "t0001", "x0000"}),
    "failed": (lambda _: Requeue(status="validation_failed"), {"x0000"}),
    "a language": (lambda _: Requeue(languages=["ta"]), {"t0000", "t0001", "x0000"}),
    "a worker": (lambda _: Requeue(worker_id="bob"), {"t0000", "t0001"}),
    "a suite": (lambda _: Requeue(suite="tiny"), {"h0000", "h0001", "t0000", "t0001"}),
    "another suite": (lambda _: Requeue(suite="vast"), set()),
    "a revision": (lambda e: Requeue(revision=revisions(e)[tuple(OLD.items())]), {"h0000", "h0001"}),
    "lacking a revision": (lambda _: Requeue(lacking={"nose": "2"}), {"h0000", "h0001"}),
    "lacking nothing": (lambda _: Requeue(lacking={"nose": None}), set()),
    "lacking a model": (lambda _: Requeue(lacking={"tongue": None}), {"h0000", "h0001", "t0000", "t0001"}),
    "both conditions": (lambda _: Requeue(status="validated", languages=["ta"]), {"t0000", "t0001"}),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_requeue_takes_videos_that_meet_every_condition(mixed, choice):
    """Each choice of conditions requeues exactly the expected videos."""
    which, expected = CHOICES[choice]
    requeue_videos(mixed, which(mixed))
    assert {video for video, status in statuses(mixed).items() if status == "pending"} == expected


def test_requeue_lacking_asks_only_the_missing_models(ledger, seed):
    """A chunk of videos that lack one model asks that model; with a never validated video it asks the whole suite."""
    seed(2)
    validate(ledger, "one")
    requeue_videos(ledger, Requeue(lacking={"nose": "2", "tongue": None}))
    chunk = claim(ledger)
    assert chunk.models == ("nose", "tongue")

    release_chunk(ledger, chunk.chunk_id, reason="test")
    seed(1, prefix="w")
    assert claim(ledger).models is None


def test_result_of_another_model_supersedes_nothing(ledger, seed):
    """The shard of the one new model joins the old one; both are current, and nothing is lacking."""
    seed(2)
    validate(ledger, "one")
    requeue_videos(ledger, Requeue(lacking={"nose": "2"}))
    validate(ledger, "two", models={"nose": "2"})
    assert sorted(current(ledger).values()) == [ONE] * 2 + [TWO] * 2
    assert requeue_videos(ledger, Requeue(lacking={"nose": "2"})) == []
    requeue_videos(ledger, Requeue())
    assert claim(ledger).models is None
    assert violated_invariants(ledger) == []

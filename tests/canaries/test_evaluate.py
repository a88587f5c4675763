"""The comparison of a worker's answers with the known answers of a canary."""

from dataclasses import replace

import pytest

from tests.support.ledger_helpers import execute, fetch
from validation.canaries.evaluate import evaluate_canaries, find_error, tolerance_for
from validation.control.compact import compact_all
from validation.domain import Fault, Scored, Unscored, WorkerProfile
from validation.ledger.canaries import KnownAnswer, insert_canaries, read_canary_results, read_pending_canaries
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.ledger.workers import register_worker
from validation.scoring.verdict import Condition, Rule, Rules
from validation.shards.schema import results_basis
from validation.storage.store import delete_object
from validation.worker.chunk.context import run_chunk

RIGHT = KnownAnswer("accept", {"cer": 0.1, "ear_p": 0.9, "votes": 2, "declared_p": None})
UNITS = {"cer": "ratio", "ear_p": "probability", "votes": "models", "declared_p": "probability"}


def row(verdict="accept", **values):
    """The row of a segment that is answered rightly except for these values."""
    return {"verdict": verdict, **RIGHT.signals, **values}


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([row(), row(), row()], None),
        ([row(cer=0.19, ear_p=0.85), row(), row()], None),
        ([row(cer=0.9), row(), row()], None),
        ([row(cer=0.9), row(), row(ear_p=0.2)], "segment 0: cer is 0.9 instead of 0.1; segment 2: ear_p is 0.2"),
        (
            [row(votes=1), row(declared_p=0.5), row()],
            "segment 0: votes is 1 instead of 2; segment 1: declared_p is 0.5",
        ),
        ([row(), row("reject"), row()], "segment 1: the verdict is reject instead of accept"),
        ([row(), row(), row(cer=None)], "segment 2: no cer, which is 0.1"),
        ([row(), row("review", cer=None, ear_fault="model_crashed: x"), row()], None),
        ([row("reject", fault="undecodable: x"), row(cer=0.9), row(cer=None)], "segment 2: no cer"),
        ([row(), row(), row(cer=None, ear_fault="not_asked: x")], "segment 2: no cer, which is 0.1"),
        ([row(), row()], "2 segments instead of 3"),
        ([], "0 segments instead of 3"),
    ],
)
def test_canary_is_wrong_by_a_verdict_a_missing_answer_or_two_numbers(found, error):
    """One deviating number may be chance. A segment on which a model failed is left out and hides no other segment."""
    found = find_error([RIGHT] * 3, found, UNITS)
    assert found is None if error is None else found.startswith(error)


def test_tolerance_depends_on_unit_and_value():
    """Log-probabilities by their size, probabilities by their certainty; counts exactly; shares of samples by
    rounding."""
    assert tolerance_for("ear_lp", -100.0, "log-probability") == pytest.approx(2.3)
    assert tolerance_for("ear_p", 0.5, "probability") == pytest.approx(0.12)
    assert tolerance_for("ear_p", 0.999, "probability") < 0.021
    assert tolerance_for("ear_tokens", 7, "tokens") == 0.0
    assert tolerance_for("language_votes_for", 2, "models") == 0.0
    assert tolerance_for("clipped_fraction", 0.0, "ratio") == 0.001


@pytest.fixture
def canary_box(box):
    """A box whose video `b` is a canary with the box's own answers; video `a` is ordinary."""
    box.add_videos("a")
    tones = {"duration_s": 0.5, "ear_peak": 0.1}
    answers = {"b": (KnownAnswer("accept", tones),) * 2}
    insert_canaries(box.engine, "tiny", {"ear": "1"}, answers, basis=results_basis("tiny-1", "all"))
    box.add_videos("b")
    return box


def outcome(box):
    """The outcome and finding of each canary."""
    return [(row.outcome, row.finding) for row in read_canary_results(box.engine)]


def test_correct_worker_is_right(canary_box):
    """The rows of the committed shard are compared with the known answers once."""
    run_chunk(canary_box.context)
    ((canary),) = evaluate_canaries(canary_box.engine, canary_box.context.results)
    assert (canary.video_id, canary.worker_id, canary.outcome) == ("b", "ann", "right")
    assert evaluate_canaries(canary_box.engine, canary_box.context.results) == []
    assert outcome(canary_box) == [("right", None)]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(Scored({"peak": 0.7}), "wrong"), (Unscored(Fault("model_crashed", "no")), "inconclusive")],
)
def test_wrong_answers_are_wrong_and_failures_are_inconclusive(canary_box, answer, expected):
    """Two deviating segments are wrong; a model that crashed on them gave no answer, whatever the verdict is without
    it."""
    canary_box.scorer.score = lambda utterances: [{"ear": answer} for _ in utterances]
    run_chunk(canary_box.context)
    evaluate_canaries(canary_box.engine, canary_box.context.results)
    assert [found for found, _ in outcome(canary_box)] == [expected]


STRICT = Rule(
    reason="any", verdict="reject", when=(Condition(column="duration_s", op="present"),), sentence="There is audio."
)


@pytest.mark.parametrize(
    ("change", "finding_part"),
    [
        ({"rules": Rules(version="tiny-2", required_models=("ear",), rules=(STRICT,))}, "rules_version tiny-2"),
        ({"revisions": {"ear": "2"}}, "other models"),
    ],
)
def test_other_rules_or_models_are_inconclusive(canary_box, change, finding_part):
    """A new version of rules or models makes no correct worker wrong."""
    vars(canary_box.scorer).update(change)
    run_chunk(canary_box.context)
    evaluate_canaries(canary_box.engine, canary_box.context.results)
    ((found, finding),) = outcome(canary_box)
    assert found == "inconclusive"
    assert finding_part in finding


def test_canary_with_unknown_rules_is_inconclusive(canary_box):
    """A canary without a recorded basis cannot be compared."""
    execute(canary_box.engine, "UPDATE validation.canaries SET basis = '{}'")
    run_chunk(canary_box.context)
    evaluate_canaries(canary_box.engine, canary_box.context.results)
    assert [found for found, _ in outcome(canary_box)] == ["inconclusive"]


def test_canary_is_evaluated_after_compaction(canary_box):
    """A canary that was compacted, or processed again by another worker, is evaluated for each worker."""
    ann = canary_box.context
    bob = replace(ann, settings=ann.settings.model_copy(update={"worker_id": "bob"}))
    register_worker(canary_box.engine, WorkerProfile("bob", config={"instance": "bob-1"}))
    for worker in (ann, bob):
        run_chunk(worker, size=1)
        run_chunk(worker)
        requeue_videos(canary_box.engine, Requeue(["a", "b"]))
    run_chunk(ann)
    canary_box.add_videos("c")
    run_chunk(ann)
    assert [made.rows for _, made in compact_all(canary_box.engine, ann.results)] == [6]
    evaluated = evaluate_canaries(canary_box.engine, ann.results)
    assert sorted((canary.worker_id, canary.outcome) for canary in evaluated) == [
        ("ann", "right"), ("ann", "right"), ("bob", "right"),
    ]  # fmt: skip
    assert evaluate_canaries(canary_box.engine, ann.results) == []


def test_unreadable_shard_is_left_for_the_next_run(canary_box):
    """It shows nothing about the worker; `vfleet audit` names it, and other shards are evaluated."""
    run_chunk(canary_box.context)
    (shard,) = read_committed_shards(canary_box.engine)
    delete_object(canary_box.context.results, shard.shard_key)
    assert evaluate_canaries(canary_box.engine, canary_box.context.results) == []
    assert len(read_pending_canaries(canary_box.engine)) == 1


def test_evaluation_without_canaries_reads_one_empty_table(box):
    """A fleet without canaries pays for one read of an empty table."""
    box.add_videos("a")
    run_chunk(box.context)
    plan = "\n".join(row[0] for row in fetch(box.engine, "EXPLAIN (ANALYZE) SELECT * FROM validation.pending_canaries"))
    read = [line for line in plan.splitlines() if "Scan" in line and " canaries " not in line]
    assert evaluate_canaries(box.engine, box.context.results) == []
    assert read
    assert all("never executed" in line for line in read)

"""What counts as a wrong answer, and what two honest machines may differ by."""

from dataclasses import replace

import pytest

from tests.support.ledger_helpers import execute, fetch
from validation.canaries.evaluate import evaluate_canaries, find_error
from validation.canaries.tolerance import tolerance_for
from validation.control.compact import compact_all
from validation.domain import Fault, Scored, Unscored, WorkerProfile
from validation.ledger.canaries import KnownAnswer, insert_canaries, read_canary_results, read_pending_canaries
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import read_committed_shards
from validation.ledger.workers import register_worker
from validation.scoring.verdict import Condition, Rule, Rules
from validation.shards.schema import comparability_key
from validation.storage.store import delete_object
from validation.worker.chunk.context import run_chunk

RIGHT = KnownAnswer("accept", {"cer": 0.1, "ear_p": 0.9, "votes": 2, "declared_p": None})
UNITS = {"cer": "ratio", "ear_p": "probability", "votes": "judges", "declared_p": "probability"}


def say(verdict="accept", **values):
    return {"verdict": verdict, **RIGHT.signals, **values}


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([say(), say(), say()], None),
        ([say(cer=0.19, ear_p=0.85), say(), say()], None),
        ([say(cer=0.9), say(), say()], None),
        ([say(cer=0.9), say(), say(ear_p=0.2)], "segment 0: cer is 0.9 instead of 0.1; segment 2: ear_p is 0.2"),
        (
            [say(votes=1), say(declared_p=0.5), say()],
            "segment 0: votes is 1 instead of 2; segment 1: declared_p is 0.5",
        ),
        ([say(), say("reject"), say()], "segment 1: the verdict is reject instead of accept"),
        ([say(), say(), say(cer=None)], "segment 2: no cer, which is 0.1"),
        ([say(), say("review", cer=None, ear_fault="model_crashed: x"), say()], None),
        ([say("reject", fault="undecodable: x"), say(cer=0.9), say(cer=None)], "segment 2: no cer"),
        ([say(), say(), say(cer=None, ear_fault="not_asked: x")], "segment 2: no cer, which is 0.1"),
        ([say(), say()], "2 segments instead of 3"),
        ([], "0 segments instead of 3"),
    ],
)
def test_one_verdict_one_missing_answer_or_two_numbers_are_wrong(found, error):
    """One number that is off may be chance; a judgement that is, or none where one is known, is not. A segment that
    failed proves nothing, and hides no other; one that a machine spares where it should not has not failed."""
    found = find_error([RIGHT] * 3, found, UNITS)
    assert found is None if error is None else found.startswith(error)


def test_tolerance_depends_on_unit_and_value():
    """A long sum by more than a short one, a sure judge by less than a doubtful one, what is counted by nothing, and
    what is computed of the samples by rounding."""
    assert tolerance_for("ear_lp", -100.0, "log-probability") == pytest.approx(2.3)
    assert tolerance_for("ear_p", 0.5, "probability") == pytest.approx(0.12)
    assert tolerance_for("ear_p", 0.999, "probability") < 0.021
    assert tolerance_for("ear_tokens", 7, "tokens") == 0.0
    assert tolerance_for("language_votes_for", 2, "judges") == 0.0
    assert tolerance_for("clipped_fraction", 0.0, "ratio") == 0.001


@pytest.fixture
def planted(box):
    """Video `b` is a canary whose answers are those of the box itself; `a` is none."""
    box.add_videos("a")
    tones = {"duration_s": 0.5, "ear_peak": 0.1}
    answers = {"b": (KnownAnswer("accept", tones),) * 2}
    insert_canaries(box.engine, "tiny", {"ear": "1"}, answers, basis=comparability_key("tiny-1", "all"))
    box.add_videos("b")
    return box


def outcome(box):
    return [(row.outcome, row.finding) for row in read_canary_results(box.engine)]


def test_correct_worker_is_right(planted):
    """Its rows in the committed shard are held against the answers, once."""
    run_chunk(planted.context)
    ((canary),) = evaluate_canaries(planted.engine, planted.context.results)
    assert (canary.video_id, canary.worker_id, canary.outcome) == ("b", "ann", "right")
    assert evaluate_canaries(planted.engine, planted.context.results) == []
    assert outcome(planted) == [("right", None)]


@pytest.mark.parametrize(
    ("answer", "judged"), [(Scored({"peak": 0.7}), "wrong"), (Unscored(Fault("model_crashed", "no")), "inconclusive")]
)
def test_wrong_answers_are_wrong_and_failures_are_inconclusive(planted, answer, judged):
    """Two segments off are wrong; a model that crashed on them gave no answer, whatever the verdict is without it."""
    planted.scorer.score = lambda utterances: [{"ear": answer} for _ in utterances]
    run_chunk(planted.context)
    evaluate_canaries(planted.engine, planted.context.results)
    assert [found for found, _ in outcome(planted)] == [judged]


STRICT = Rule(
    reason="any", verdict="reject", when=(Condition(column="duration_s", op="present"),), sentence="There is audio."
)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rules": Rules(version="tiny-2", required_models=("ear",), rules=(STRICT,))}, "rules_version tiny-2"),
        ({"revisions": {"ear": "2"}}, "other models"),
    ],
)
def test_other_rules_or_models_are_inconclusive(planted, change, told):
    """A new version of the rules, rolled out to honest machines, makes no machine wrong."""
    vars(planted.scorer).update(change)
    run_chunk(planted.context)
    evaluate_canaries(planted.engine, planted.context.results)
    ((found, finding),) = outcome(planted)
    assert found == "inconclusive"
    assert told in finding


def test_canary_with_unknown_rules_is_inconclusive(planted):
    """One that was planted before they were written down."""
    execute(planted.engine, "UPDATE validation.canaries SET basis = '{}'")
    run_chunk(planted.context)
    evaluate_canaries(planted.engine, planted.context.results)
    assert [found for found, _ in outcome(planted)] == ["inconclusive"]


def test_canary_is_evaluated_after_compaction(planted):
    """Compacted, or done again by another machine, before anybody judged it: each is judged for its own."""
    ann = planted.context
    bob = replace(ann, settings=ann.settings.model_copy(update={"worker_id": "bob"}))
    register_worker(planted.engine, WorkerProfile("bob", config={"instance": "bob-1"}))
    for worker in (ann, bob):
        run_chunk(worker, size=1)
        run_chunk(worker)
        requeue_videos(planted.engine, Requeue(["a", "b"]))
    run_chunk(ann)
    planted.add_videos("c")
    run_chunk(ann)
    assert [made.rows for _, made in compact_all(planted.engine, ann.results)] == [6]
    judged = evaluate_canaries(planted.engine, ann.results)
    assert sorted((canary.worker_id, canary.outcome) for canary in judged) == [
        ("ann", "right"), ("ann", "right"), ("bob", "right"),
    ]  # fmt: skip
    assert evaluate_canaries(planted.engine, ann.results) == []


def test_unreadable_shard_is_left_for_the_next_run(planted):
    """It tells nothing of its machine; `vfleet audit` names it, and the other shards are judged."""
    run_chunk(planted.context)
    (shard,) = read_committed_shards(planted.engine)
    delete_object(planted.context.results, shard.shard_key)
    assert evaluate_canaries(planted.engine, planted.context.results) == []
    assert len(read_pending_canaries(planted.engine)) == 1


def test_evaluation_without_canaries_reads_one_empty_table(box):
    """A fleet that plants none pays one look at an empty table."""
    box.add_videos("a")
    run_chunk(box.context)
    plan = "\n".join(row[0] for row in fetch(box.engine, "EXPLAIN (ANALYZE) SELECT * FROM validation.pending_canaries"))
    read = [line for line in plan.splitlines() if "Scan" in line and " canaries " not in line]
    assert evaluate_canaries(box.engine, box.context.results) == []
    assert read
    assert all("never executed" in line for line in read)

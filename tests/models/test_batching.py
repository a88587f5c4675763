"""Batches hold every segment once and keep their budget; a batch that fails is bisected."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.flaky_model import FlakyModel
from tests.support.speech_samples import silence
from validation.domain import SAMPLE_RATE, Answer, Scored, Unscored, Utterance
from validation.hardware.gpu import GpuLost, GpuOutOfMemory
from validation.models.base import Batch, SegmentModel
from validation.models.batching import (
    Bisection,
    launch_model,
    measure_padding,
    pad_batch,
    padded_cost_s,
    plan_batches,
    take_rows,
)

DURATIONS = st.lists(st.floats(0.1, 400), max_size=60)
BUDGETS = st.floats(1, 1500)


@given(DURATIONS, BUDGETS)
def test_every_item_is_in_one_batch(durations_s, budget_s):
    """No segment is lost or scored twice."""
    plan = plan_batches(durations_s, budget_s)
    assert sorted(item for batch in plan for item in batch) == list(range(len(durations_s)))


@given(DURATIONS, BUDGETS, st.sampled_from([0.0, 10.0]))
def test_no_batch_exceeds_the_budget_unless_it_is_one_item(durations_s, budget_s, min_padded_s):
    """The budget bounds memory; only an item that is too long by itself exceeds it."""
    for batch in plan_batches(durations_s, budget_s, min_padded_s=min_padded_s):
        longest_s = max(min_padded_s, *(durations_s[item] for item in batch))
        assert len(batch) == 1 or len(batch) * padded_cost_s(longest_s) <= budget_s * (1 + 1e-12)


@given(DURATIONS, BUDGETS)
def test_the_longest_items_come_first(durations_s, budget_s):
    """The greatest need of memory shows in the first batch, and items of a batch have similar lengths."""
    order = [durations_s[item] for batch in plan_batches(durations_s, budget_s) for item in batch]
    assert order == sorted(durations_s, reverse=True)


@given(DURATIONS, BUDGETS)
def test_a_batch_is_as_full_as_the_budget_allows(durations_s, budget_s):
    """The first item of the next batch would exceed the budget."""
    plan = plan_batches(durations_s, budget_s)
    for batch in plan[:-1]:
        assert (len(batch) + 1) * padded_cost_s(durations_s[batch[0]]) > budget_s * (1 - 1e-12)


def test_sorting_pads_less_than_arrival_order():
    """Forty segments of 1 and 20 s have at most 20 % padding when sorted."""
    arrived_s = [1.0, 20.0] * 20
    sorted_fill = sum(
        measure_padding([arrived_s[item] for item in batch]).padded_s for batch in plan_batches(arrived_s, 100.0)
    )
    arrival_fill = sum(measure_padding(arrived_s[start : start + 4]).padded_s for start in range(0, 40, 4))
    assert sorted_fill <= 1.2 * sum(arrived_s) < arrival_fill


def test_rows_of_a_batch_lose_superfluous_padding():
    """Half of a batch equals the batch of its own items."""
    batch = pad_batch([Utterance(silence(s) + s, f"{s}", "en") for s in (0.4, 0.1, 0.2)])
    half = take_rows(batch, [1, 2])
    assert half.waveforms.shape == (2, 3200)
    assert list(half.lengths) == [1600, 3200]
    assert list(half.texts) == ["0.1", "0.2"]
    assert (half.waveforms[0, :1600] == batch.waveforms[1, :1600]).all()
    assert (half.waveforms[0, 1600:] == 0).all()


def batch_of(texts: Sequence[str]) -> Batch:
    return pad_batch([Utterance(silence(0.2), text, None) for text in texts])


def score_with_bisection(model, batch, *, on_oom):
    return Bisection(model, on_oom).answer(batch, launch_model(model, batch))


def never(batch: Batch) -> None:
    raise AssertionError(f"{len(batch)} items were said to be too many for the memory")


@given(st.lists(st.sampled_from(["a", "b", "poison"]), min_size=1, max_size=40))
def test_only_failing_items_are_unscored(texts):
    """However many items make a batch fail, only they have no answer, and all others have their own."""
    answers = score_with_bisection(FlakyModel(), batch_of(texts), on_oom=never)
    for text, answer in zip(texts, answers, strict=True):
        if text == "poison":
            assert isinstance(answer, Unscored)
            assert answer.fault.kind == "model_failed"
            assert "poison is in the batch" in answer.fault.message
        else:
            assert answer == Scored({"said": text})


@pytest.mark.parametrize("guilty", [0, 13, 31])
def test_finding_one_of_thirty_two_takes_eleven_calls(guilty):
    """Bisection needs one call for the whole batch and two per level."""
    model = FlakyModel()
    texts = ["a"] * guilty + ["poison"] + ["a"] * (31 - guilty)
    score_with_bisection(model, batch_of(texts), on_oom=never)
    assert len(model.batches) == 11


@given(st.lists(st.sampled_from([0.2, 0.4, 3.0]), min_size=1, max_size=20), st.floats(0.3, 5.0))
def test_a_batch_that_is_too_large_is_halved_until_it_fits(durations_s, memory_s):
    """Every item that fits alone is answered, and every batch that did not fit is reported."""

    class Small(FlakyModel):
        def score(self, batch: Batch) -> Sequence[Answer]:
            if batch.waveforms.size > memory_s * SAMPLE_RATE:
                raise GpuOutOfMemory(f"{batch.waveforms.size} samples are too many")
            return super().score(batch)

    overruns: list[Batch] = []
    batch = pad_batch([Utterance(silence(s), f"{s}", None) for s in durations_s])
    answers = score_with_bisection(Small(), batch, on_oom=overruns.append)
    for duration_s, answer in zip(durations_s, answers, strict=True):
        if int(duration_s * SAMPLE_RATE) <= memory_s * SAMPLE_RATE:
            assert answer == Scored({"said": f"{duration_s}"})
        else:
            assert isinstance(answer, Unscored)
            assert answer.fault.kind == "out_of_memory"
    assert all(len(batch) > 1 and batch.waveforms.size > memory_s * SAMPLE_RATE for batch in overruns)


def test_out_of_memory_is_tried_once_more_before_halving():
    """The first failure has freed what other models kept, so the second try may fit."""

    class Crowded(FlakyModel):
        def score(self, batch: Batch) -> Sequence[Answer]:
            if not self.batches:
                self.batches.append(batch)
                raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
            return super().score(batch)

    model = Crowded()
    answers = score_with_bisection(model, batch_of(["a", "b"]), on_oom=never)
    assert answers == [Scored({"said": "a"}), Scored({"said": "b"})]
    assert [len(batch) for batch in model.batches] == [2, 2]


def test_a_lost_gpu_ends_the_batch_after_one_call():
    """Every further call would fail too, and 32 segments would be unscored after 63 calls."""

    class OnBrokenCard(FlakyModel):
        def score(self, batch: Batch) -> Sequence[Answer]:
            self.batches.append(batch)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    model = OnBrokenCard()
    with pytest.raises(GpuLost, match="illegal memory access"):
        score_with_bisection(model, batch_of(["a"] * 32), on_oom=never)
    assert len(model.batches) == 1


def test_a_missing_answer_is_a_failure():
    """Answers are matched by position: with one too few later segments would get another segment's answer."""

    class Forgetful(FlakyModel):
        def score(self, batch: Batch) -> Sequence[Answer]:
            return super().score(batch)[1:]

    answers = score_with_bisection(Forgetful(), batch_of(["a", "b"]), on_oom=never)
    assert all(isinstance(answer, Unscored) for answer in answers)


def test_models_implement_the_interface(models):
    """Every model of a suite is a ``SegmentModel`` by structure."""
    assert all(isinstance(model, SegmentModel) for model in [FlakyModel(), *models.values()])

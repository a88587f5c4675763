from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.flaky_model import FlakyModel
from tests.support.speech_samples import silence
from validation.domain import SAMPLE_RATE, Answer, Scored, Unscored, Utterance
from validation.hardware.gpu_errors import GpuLost, GpuOutOfMemory
from validation.models.base import Batch, SegmentModel
from validation.models.batching import pad_batch, score_with_bisection


def batch_of(texts: Sequence[str]) -> Batch:
    return pad_batch([Utterance(silence(0.2), text, None) for text in texts])


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

from collections.abc import Sequence

import pytest
from fussy_model import Fussy
from hypothesis import given
from hypothesis import strategies as st
from speech_samples import silence

from validation.domain import Answer, Scored, Unscored, Utterance
from validation.models.base import Batch, SegmentModel
from validation.models.batching import pad_batch
from validation.models.isolation import score_isolated


def batch_of(texts: Sequence[str]) -> Batch:
    return pad_batch([Utterance(silence(0.2), text, None) for text in texts])


@given(st.lists(st.sampled_from(["a", "b", "poison"]), min_size=1, max_size=40))
def test_the_guilty_stand_alone(texts):
    """However many items fail a batch, exactly they have no answer, and all others have their own."""
    answers = score_isolated(Fussy(), batch_of(texts))
    for text, answer in zip(texts, answers, strict=True):
        if text == "poison":
            assert isinstance(answer, Unscored)
            assert answer.fault.kind == "model_failed"
            assert "I cannot bear it" in answer.fault.message
        else:
            assert answer == Scored({"said": text})


@pytest.mark.parametrize("guilty", [0, 13, 31])
def test_finding_one_of_thirty_two_takes_eleven_calls(guilty):
    """The search halves: one call for the whole, two a level."""
    model = Fussy()
    score_isolated(model, batch_of(["a"] * guilty + ["poison"] + ["a"] * (31 - guilty)))
    assert len(model.batches) == 11


def test_a_model_that_loses_an_answer_has_failed():
    """Answers are matched by position: one too few would give every later segment its neighbour's."""

    class Forgetful(Fussy):
        def score(self, batch: Batch) -> Sequence[Answer]:
            return super().score(batch)[1:]

    answers = score_isolated(Forgetful(), batch_of(["a", "b"]))
    assert all(isinstance(answer, Unscored) for answer in answers)


def test_the_models_of_a_suite_keep_the_interface(models):
    """What a suite is given is a ``SegmentModel``, by structure."""
    assert all(isinstance(model, SegmentModel) for model in [Fussy(), *models.values()])

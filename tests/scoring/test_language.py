"""The laws of votes on a declared language."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.language import LidPrediction, count_votes

CODES = st.sampled_from(["hi", "ur", "en"])
OPINIONS = st.lists(st.builds(LidPrediction, top1=st.none() | CODES, p_declared=st.none() | st.floats(0, 1)))


@given(st.none() | CODES, OPINIONS)
def test_every_judge_votes_or_abstains(declared, opinions):
    """The three counts add up to the judges, and the order of the judges does not matter."""
    votes = count_votes(declared, opinions)
    assert votes.agreeing + votes.opposing + votes.abstaining == len(opinions)
    assert count_votes(declared, reversed(opinions)) == votes


@given(OPINIONS)
def test_without_a_declared_language_everybody_abstains(opinions):
    """There is nothing to agree with."""
    assert count_votes(None, opinions).abstaining == len(opinions)


@pytest.mark.parametrize(
    ("opinion", "counts"),
    [
        (LidPrediction("hi", 0.9), (1, 0, 0)),
        (LidPrediction("en", 0.02), (0, 1, 0)),
        (LidPrediction("en", None), (0, 0, 1)),
        (LidPrediction(None, None), (0, 0, 1)),
    ],
    ids=["agrees", "opposes", "does not know the declared language", "gave no answer"],
)
def test_a_judge_who_does_not_know_the_language_abstains(opinion, counts):
    """Hearing another language is evidence only from one who could have heard the declared one."""
    votes = count_votes("hi", [opinion])
    assert (votes.agreeing, votes.opposing, votes.abstaining) == counts

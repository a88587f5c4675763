"""What a flow run reports to its worker at its end, and which errors stop the worker."""

import pytest

from validation.errors import BadInput, ClaimLost, Transient
from validation.ledger.rpc import BoxKeyRejected
from validation.storage.errors import StoreRefused
from validation.worker.chunk.outcome import (
    MAX_EQUAL_REFUSALS,
    OUTCOME_FILE_VARIABLE,
    RefusalStreak,
    report_outcome,
    take_outcome,
)
from validation.worker.chunk.video_errors import SourceMismatch


@pytest.fixture
def end_with(tmp_path, monkeypatch):
    """End a flow run with an error or without one; return the outcome that its worker reads."""
    path = tmp_path / "outcome.json"
    monkeypatch.setenv(OUTCOME_FILE_VARIABLE, str(path))

    def end(error=None):
        try:
            with report_outcome():
                if error is not None:
                    raise error
        except type(error):
            pass
        outcome = take_outcome(path)
        assert list(tmp_path.iterdir()) == []
        return outcome

    return end


@pytest.mark.parametrize(
    "error",
    [BoxKeyRejected("val-1"), StoreRefused("s3://x", "403", "check it"), SourceMismatch("c", 7, "a.tar is missing")],
    ids=lambda error: type(error).__name__,
)
def test_box_wide_error_stops_the_worker_at_once(end_with, error):
    """A wrong box key, store or source stops the worker after one run, with the error's own message."""
    refused = RefusalStreak().add(end_with(error))
    assert isinstance(refused, BadInput)
    assert str(refused) == str(error)


def test_third_equal_error_in_a_row_stops_the_worker(end_with):
    """Equal means the same class; a run that ends otherwise restarts the count."""
    streak = RefusalStreak()
    ends = [KeyError("peak"), KeyError("peak"), None, KeyError("peak"), ValueError("x"), KeyError("a"), KeyError("b")]
    assert [streak.add(end_with(error)) for error in ends] == [None] * 7
    refused = streak.add(end_with(KeyError("c")))
    assert str(refused) == f"{MAX_EQUAL_REFUSALS} flow runs in a row ended with KeyError: 'c'"


@pytest.mark.parametrize("error", [Transient("busy"), ClaimLost("c", "expired")])
def test_an_outage_or_a_lost_claim_is_not_reported(end_with, error):
    """A transient error or a lost claim says nothing about the next chunk."""
    assert end_with(error) is None


def test_outcome_is_empty_without_a_worker_or_a_readable_file(monkeypatch, tmp_path):
    """Without a worker nothing is written; a missing or damaged file gives no outcome."""
    monkeypatch.delenv(OUTCOME_FILE_VARIABLE, raising=False)
    with report_outcome():
        pass
    (tmp_path / "damaged").write_text('{"kind": ')
    assert take_outcome(tmp_path / "none") is None
    assert take_outcome(tmp_path / "damaged") is None

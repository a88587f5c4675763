import pytest
from ledger_steps import claim, execute, expire, fetch

from validation.chunk.lease import LeaseKeeper
from validation.domain import Progress
from validation.errors import ClaimLost
from validation.ledger.protocol import sweep_stale_claims


def keeper(engine, chunk) -> LeaseKeeper:
    return LeaseKeeper(engine, chunk, lambda: Progress(videos_validated=1, segments=4), period_s=30)


def test_a_beat_moves_the_lease_and_mirrors_progress(ledger, seed):
    """After a beat the chunk is safe from the sweep and the worker's row shows what was done."""
    seed(3)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    keeper(ledger, chunk).beat()
    assert sweep_stale_claims(ledger) == []
    assert fetch(ledger, "SELECT segments_processed FROM worker_validators WHERE worker_id = 'ann'") == [(4,)]


def test_a_chunk_that_was_taken_is_known_as_lost(ledger, seed):
    """The first beat after a sweep tells the holder to stop."""
    seed(3)
    chunk = claim(ledger)
    lease = keeper(ledger, chunk)
    expire(ledger, chunk.chunk_id)
    sweep_stale_claims(ledger)
    lease.beat()
    with pytest.raises(ClaimLost, match="expired"):
        lease.require()


def test_a_ledger_that_is_away_for_less_than_the_lease_costs_nothing(ledger, connect, seed, postgres):
    """Beats that find no ledger are forgotten once one succeeds."""
    seed(3)
    chunk = claim(ledger)
    lease = keeper(ledger, chunk)
    execute(ledger, "ALTER TABLE validation_chunks RENAME TO away")
    lease.beat()
    lease.require()
    execute(ledger, "ALTER TABLE away RENAME TO validation_chunks")
    lease.beat()
    lease.require()


def test_a_ledger_that_is_away_past_the_lease_ends_the_chunk(ledger, seed, monkeypatch):
    """A holder that could not renew before its lease ended holds nothing, though nobody told it so."""
    seed(3)
    lease = keeper(ledger, claim(ledger, lease_s=60))
    now = __import__("time").monotonic()
    monkeypatch.setattr("validation.chunk.lease.time.monotonic", lambda: now + 61)
    with pytest.raises(ClaimLost, match="past its lease"):
        lease.require()


def test_the_keeper_beats_by_itself(ledger, seed):
    """Entered as a context it renews from its own thread, and ends with it."""
    seed(3)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    lease = LeaseKeeper(ledger, chunk, Progress, period_s=0.01)
    with lease:
        for _ in range(500):
            if fetch(ledger, "SELECT FROM validation_chunks WHERE lease_expires_at > now()"):
                break
            lease._done.wait(0.01)
    assert sweep_stale_claims(ledger) == []
    assert not lease._thread.is_alive()

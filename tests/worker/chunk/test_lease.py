import time

import pytest

from tests.support.ledger_helpers import claim, engine_for, expire, fetch
from tests.support.stalled_proxy import StalledProxy
from validation.domain import Progress, Video, WorkerProfile
from validation.errors import ClaimLost
from validation.ledger.chunks import commit_chunk
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.migrate import migrate
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker
from validation.local.postgres import EmbeddedPostgres
from validation.local.process import poll_until
from validation.worker.chunk import lease as leases
from validation.worker.chunk.lease import LeaseRenewer

RENEWED = "SELECT FROM validation_chunks WHERE lease_expires_at > now()"


def keeper(engine, chunk, **options) -> LeaseRenewer:
    return LeaseRenewer(engine, chunk, lambda: Progress(videos_validated=1, segments=4), **{"period_s": 30} | options)


def test_a_beat_moves_the_lease_and_mirrors_progress(ledger, seed):
    """After a beat the chunk is safe from the sweep and the worker's row shows what was done."""
    seed(3)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    keeper(ledger, chunk).renew()
    assert sweep_stale_claims(ledger) == []
    assert fetch(ledger, "SELECT segments_processed FROM worker_validators WHERE worker_id = 'ann'") == [(4,)]


def test_a_chunk_that_was_taken_is_known_as_lost(ledger, seed):
    """The first beat after a sweep tells the holder to stop."""
    seed(3)
    chunk = claim(ledger)
    lease = keeper(ledger, chunk)
    expire(ledger, chunk.chunk_id)
    sweep_stale_claims(ledger)
    lease.renew()
    with pytest.raises(ClaimLost, match="expired"):
        lease.ensure_held()


@pytest.fixture
def own_postgres(open_folder):
    """A Postgres that a test may stop, with one claimable video."""
    with EmbeddedPostgres(open_folder / "postgres") as server:
        engine = engine_for(server.libpq_url())
        migrate(engine)
        seed_videos(engine, [Video("v0000", "hi", 3)])
        register_worker(engine, WorkerProfile("ann", config={"instance": "ann-1"}))
        yield server, engine
        engine.dispose()


def test_a_ledger_that_is_away_for_less_than_the_lease_costs_nothing(own_postgres, monkeypatch):
    """A server that is stopped and started again is met as soon as it is back, and the chunk is still its holder's."""
    server, engine = own_postgres
    monkeypatch.setattr(leases, "RETRY_S", 0.1)
    chunk = claim(engine)
    with keeper(engine, chunk, period_s=0.1) as lease:
        server.stop()
        assert poll_until(lambda: lease._last_renewal_failed, within_s=10)
        lease.ensure_held()
        server.start()
        expire(engine, chunk.chunk_id)
        assert poll_until(lambda: fetch(engine, RENEWED), within_s=10)
        lease.ensure_held()
    assert sweep_stale_claims(engine) == []
    commit_chunk(engine, chunk.chunk_id, shard=None, validated={}, failed=[], max_attempts=3)


def test_a_beat_that_failed_is_tried_again_soon(ledger, postgres, seed):
    """Not after a whole period: of a lease of three periods the outage may have left less."""
    seed(1)
    with StalledProxy(postgres.port) as line:
        along = engine_for(line.lead(ledger.url.render_as_string(hide_password=False)))
        lease = keeper(along, claim(ledger))
        lease.renew()
        assert lease._next_pause_s() > 20
        along.dispose()
    lease.renew()
    assert lease._next_pause_s() < 3
    along.dispose()


def test_a_ledger_that_never_answers_does_not_hold_up_the_end(ledger, postgres, seed, monkeypatch):
    """The server accepted the renewal, so no connection is lost; the end of the chunk waits for seconds only."""
    monkeypatch.setattr(leases, "JOIN_TIMEOUT_S", 0.2)
    seed(1)
    with StalledProxy(postgres.port) as line:
        along = engine_for(line.lead(ledger.url.render_as_string(hide_password=False)))
        fetch(along, "SELECT 1")
        line.freeze_after(b"renew_chunk")
        began = time.monotonic()
        with keeper(along, claim(ledger), period_s=0.01) as lease:
            assert poll_until(lambda: line.is_frozen, within_s=10)
        assert time.monotonic() - began < 10
        assert lease._thread.is_alive()
    lease._thread.join()
    along.dispose()


def test_a_lease_runs_from_when_its_claim_was_first_asked_for(ledger, seed, monkeypatch):
    """A claim whose answer was lost and that was asked again is answered with the lease of the first time."""
    seed(1)
    now = time.monotonic()
    lease = keeper(ledger, claim(ledger, lease_s=60), requested_at=now - 40)
    lease.ensure_held()
    monkeypatch.setattr("validation.worker.chunk.lease.time.monotonic", lambda: now + 21)
    with pytest.raises(ClaimLost, match="past its lease"):
        lease.ensure_held()


def test_a_ledger_that_is_away_past_the_lease_ends_the_chunk(ledger, seed, monkeypatch):
    """A worker that could not renew before its lease expired holds nothing, even without an answer."""
    seed(3)
    lease = keeper(ledger, claim(ledger, lease_s=60))
    now = time.monotonic()
    monkeypatch.setattr("validation.worker.chunk.lease.time.monotonic", lambda: now + 61)
    with pytest.raises(ClaimLost, match="past its lease"):
        lease.ensure_held()


def test_the_keeper_beats_by_itself(ledger, seed):
    """Entered as a context it renews from its own thread, and ends with it."""
    seed(3)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    lease = LeaseRenewer(ledger, chunk, Progress, period_s=0.01)
    with lease:
        for _ in range(500):
            if fetch(ledger, "SELECT FROM validation_chunks WHERE lease_expires_at > now()"):
                break
            lease._done.wait(0.01)
    assert sweep_stale_claims(ledger) == []
    assert not lease._thread.is_alive()

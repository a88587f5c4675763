"""The lease of a chunk: renewal, outages of the ledger, and the loss of the lease."""

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


def make_renewer(engine, chunk, **options) -> LeaseRenewer:
    """A renewer of the chunk's lease that reports one validated video with four segments."""
    return LeaseRenewer(engine, chunk, lambda: Progress(videos_validated=1, segments=4), **{"period_s": 30} | options)


def test_renewal_extends_the_lease_and_reports_progress(ledger, seed):
    """After a renewal the sweep leaves the chunk alone, and the worker's row shows the progress."""
    seed(3)
    chunk = claim(ledger)
    expire(ledger, chunk.chunk_id)
    make_renewer(ledger, chunk).renew()
    assert sweep_stale_claims(ledger) == []
    assert fetch(ledger, "SELECT segments_processed FROM worker_validators WHERE worker_id = 'ann'") == [(4,)]


def test_renewal_of_a_swept_chunk_reports_claim_lost(ledger, seed):
    """The first renewal after a sweep makes `ensure_held` raise."""
    seed(3)
    chunk = claim(ledger)
    lease = make_renewer(ledger, chunk)
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


def test_ledger_outage_shorter_than_the_lease_loses_no_chunk(own_postgres, monkeypatch):
    """Renewals continue once the server is back, and the chunk can be committed."""
    server, engine = own_postgres
    monkeypatch.setattr(leases, "RETRY_S", 0.1)
    chunk = claim(engine)
    with make_renewer(engine, chunk, period_s=0.1) as lease:
        server.stop()
        assert poll_until(lambda: lease._last_renewal_failed, within_s=10)
        lease.ensure_held()
        server.start()
        expire(engine, chunk.chunk_id)
        assert poll_until(lambda: fetch(engine, RENEWED), within_s=10)
        lease.ensure_held()
    assert sweep_stale_claims(engine) == []
    commit_chunk(engine, chunk.chunk_id, shard=None, validated={}, failed=[], max_attempts=3)


def test_failed_renewal_is_retried_within_seconds(ledger, postgres, seed):
    """A failed renewal is retried after seconds instead of a whole period, because the lease may end before."""
    seed(1)
    with StalledProxy(postgres.port) as proxy:
        engine = engine_for(proxy.address_through(ledger.url.render_as_string(hide_password=False)))
        lease = make_renewer(engine, claim(ledger))
        lease.renew()
        assert lease._next_pause_s() > 20
        engine.dispose()
    lease.renew()
    assert lease._next_pause_s() < 3
    engine.dispose()


def test_unresponsive_ledger_delays_the_end_of_a_chunk_by_seconds(ledger, postgres, seed, monkeypatch):
    """If the server accepts a renewal and never answers, the end of the chunk waits for seconds only."""
    monkeypatch.setattr(leases, "JOIN_TIMEOUT_S", 0.2)
    seed(1)
    with StalledProxy(postgres.port) as proxy:
        engine = engine_for(proxy.address_through(ledger.url.render_as_string(hide_password=False)))
        fetch(engine, "SELECT 1")
        proxy.freeze_after(b"renew_chunk")
        began = time.monotonic()
        with make_renewer(engine, claim(ledger), period_s=0.01) as lease:
            assert poll_until(lambda: proxy.is_frozen, within_s=10)
        assert time.monotonic() - began < 10
        assert lease._thread.is_alive()
    lease._thread.join()
    engine.dispose()


def test_lease_is_counted_from_the_first_claim_request(ledger, seed, monkeypatch):
    """A repeated claim returns the lease of the first request, so the lease is counted from that request."""
    seed(1)
    now = time.monotonic()
    lease = make_renewer(ledger, claim(ledger, lease_s=60), requested_at=now - 40)
    lease.ensure_held()
    monkeypatch.setattr("validation.worker.chunk.lease.time.monotonic", lambda: now + 21)
    with pytest.raises(ClaimLost, match="past its lease"):
        lease.ensure_held()


def test_lease_that_expires_during_an_outage_is_lost(ledger, seed, monkeypatch):
    """A worker that could not renew before its lease expired holds nothing, even without an answer of the ledger."""
    seed(3)
    lease = make_renewer(ledger, claim(ledger, lease_s=60))
    now = time.monotonic()
    monkeypatch.setattr("validation.worker.chunk.lease.time.monotonic", lambda: now + 61)
    with pytest.raises(ClaimLost, match="past its lease"):
        lease.ensure_held()


def test_renewer_renews_from_its_own_thread(ledger, seed):
    """As a context manager it renews from a thread, which ends with the block."""
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

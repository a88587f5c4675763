"""One call of the ledger: the locks of a caller that vanishes, and what database errors ask of the caller."""

import os
import socket
from threading import Thread

import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine

from tests.support.ledger_helpers import claim, fetch
from tests.support.stalled_proxy import StalledProxy
from validation.domain import Progress
from validation.errors import FleetError, Unreachable
from validation.ledger import engine as engines
from validation.ledger.chunks import renew_chunk
from validation.ledger.maintenance import sweep_stale_claims
from validation.local.process import poll_until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in trans%'"
FREE = "SELECT count(*) FROM (SELECT FROM validation_chunks FOR UPDATE SKIP LOCKED) free"

KEEPALIVE = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


@pytest.fixture
def line(postgres):
    with StalledProxy(postgres.port) as line:
        yield line


@pytest.fixture
def vanish(ledger, line, seed):
    """Let a box vanish while it renews its chunk; returns what its call raised once the line is whole again."""
    seed(1)
    chunk = claim(ledger)
    raised = []

    def renew(engine):
        try:
            renew_chunk(engine, chunk, Progress())
        except FleetError as error:
            raised.append(error)

    def vanish(box_key=None):
        engine = engines.open_engine(line.lead(ledger.url.render_as_string(hide_password=False)), box_key)
        fetch(engine, "SELECT 1")  # it is connected
        line.freeze_after(b"renew_chunk")
        thread = Thread(target=renew, args=(engine,))
        thread.start()
        opened.append((engine, thread))
        assert poll_until(lambda: line.is_frozen, within_s=10)
        return raised

    opened = []
    yield vanish
    line.thaw()
    for engine, thread in opened:
        thread.join()
        engine.dispose()


def test_box_without_a_key_that_vanishes_during_a_call_leaves_no_lock(ledger, vanish):
    """Its statement is a transaction of its own, which the server ends by itself."""
    vanish()
    assert poll_until(lambda: is_free(ledger), within_s=5)
    assert fetch(ledger, WAITING) == [(0,)]


def test_box_with_a_key_that_vanishes_during_a_call_is_cut_off(ledger, line, vanish, monkeypatch):
    """Its transaction waits for the next statement for a limited time. If it returns, its call is transient."""
    monkeypatch.setattr(engines, "IDLE_IN_TRANSACTION_TIMEOUT", "1500ms")
    raised = vanish(SecretStr("key"))
    assert poll_until(lambda: fetch(ledger, WAITING) == [(1,)], within_s=5)
    assert not is_free(ledger)
    assert poll_until(lambda: is_free(ledger), within_s=10)
    assert fetch(ledger, WAITING) == [(0,)]

    line.thaw()
    assert poll_until(lambda: raised != [], within_s=10)
    assert isinstance(raised[0], Unreachable)


def is_free(ledger) -> bool:
    """Whether nobody holds the chunk's row."""
    return fetch(ledger, FREE) == [(1,)]


def test_box_key_and_timeouts_are_set_per_transaction(ledger):
    """One statement sets both at the start of each transaction; no session keeps them."""
    engine = engines.open_engine(ledger.url.render_as_string(hide_password=False), SecretStr("key"))
    limits = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')"
    with engine.begin() as connection:
        assert tuple(connection.exec_driver_sql(limits).one()) == ("30s", "5min")
        bare = connection.connection.driver_connection
        bare.rollback()
        assert bare.execute(limits).fetchone() == ("0", "0")
    engine.dispose()


def test_unreachable_ledger_is_noticed_within_30_s(ledger):
    """Also by a caller that only waits for an answer: TCP keepalive is on."""
    engine = engines.open_engine(ledger.url.render_as_string(hide_password=False))
    with (
        engine.connect() as connection,
        socket.socket(fileno=os.dup(connection.connection.driver_connection.fileno())) as line,
    ):
        asks = [line.getsockopt(socket.IPPROTO_TCP, option) for option in KEEPALIVE]
    assert asks[0] + asks[1] * asks[2] <= 30
    engine.dispose()


def test_exhausted_connection_pool_is_unreachable(ledger):
    """All connections wait for an answer, so the next caller is told to try again."""
    small = create_engine(ledger.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with small.connect(), pytest.raises(Unreachable, match="no connection came free"):
        sweep_stale_claims(small)
    small.dispose()

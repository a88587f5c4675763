"""One call of the ledger: the locks of a caller that vanishes, and what database errors ask of the caller."""

import os
import socket
from threading import Thread

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.support.ledger_helpers import claim, fetch
from tests.support.stalled_proxy import StalledProxy
from validation.domain import Progress
from validation.errors import FleetError, Transient, Unreachable
from validation.exit_codes import ExitCode, exit_code_of
from validation.ledger import engine as engines
from validation.ledger.chunks import renew_chunk
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.rpc import LedgerRefused, translate_error
from validation.local.process import poll_until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in trans%'"
FREE = "SELECT count(*) FROM (SELECT FROM validation_chunks FOR UPDATE SKIP LOCKED) free"

KEEPALIVE = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)


@pytest.fixture
def proxy(postgres):
    """A proxy in front of Postgres that can freeze."""
    with StalledProxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def vanish(ledger, proxy, seed):
    """Let a box vanish while it renews its chunk; returns what its call raised once the proxy is whole again."""
    seed(1)
    chunk = claim(ledger)
    raised = []

    def renew(engine):
        try:
            renew_chunk(engine, chunk, Progress())
        except FleetError as error:
            raised.append(error)

    def vanish(box_key=None):
        engine = engines.open_engine(proxy.address_through(ledger.url.render_as_string(hide_password=False)), box_key)
        fetch(engine, "SELECT 1")  # it is connected
        proxy.freeze_after(b"renew_chunk")
        thread = Thread(target=renew, args=(engine,))
        thread.start()
        opened.append((engine, thread))
        assert poll_until(lambda: proxy.is_frozen, within_s=10)
        return raised

    opened = []
    yield vanish
    proxy.thaw()
    for engine, thread in opened:
        thread.join()
        engine.dispose()


def test_box_without_a_key_that_vanishes_during_a_call_leaves_no_lock(ledger, vanish):
    """Its statement is a transaction of its own, which the server ends by itself."""
    vanish()
    assert poll_until(lambda: has_no_lock(ledger), within_s=5)
    assert fetch(ledger, WAITING) == [(0,)]


def test_box_with_a_key_that_vanishes_during_a_call_is_cut_off(ledger, proxy, vanish, monkeypatch):
    """Its transaction waits for the next statement for a limited time. If it returns, its call is transient."""
    monkeypatch.setattr(engines, "IDLE_IN_TRANSACTION_TIMEOUT", "1500ms")
    raised = vanish(SecretStr("key"))
    assert poll_until(lambda: fetch(ledger, WAITING) == [(1,)], within_s=5)
    assert not has_no_lock(ledger)
    assert poll_until(lambda: has_no_lock(ledger), within_s=10)
    assert fetch(ledger, WAITING) == [(0,)]

    proxy.thaw()
    assert poll_until(lambda: raised != [], within_s=10)
    assert isinstance(raised[0], Unreachable)


def has_no_lock(ledger) -> bool:
    """Whether no transaction has locked the chunk's row."""
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
    """TCP keepalive notices it, also for a caller that only waits for an answer."""
    engine = engines.open_engine(ledger.url.render_as_string(hide_password=False))
    with (
        engine.connect() as connection,
        socket.socket(fileno=os.dup(connection.connection.driver_connection.fileno())) as proxy,
    ):
        asks = [proxy.getsockopt(socket.IPPROTO_TCP, option) for option in KEEPALIVE]
    assert asks[0] + asks[1] * asks[2] <= 30
    engine.dispose()


def test_exhausted_connection_pool_is_unreachable(ledger):
    """All connections wait for an answer, so the next caller is told to try again."""
    small = create_engine(ledger.url, pool_size=1, max_overflow=0, pool_timeout=0.1)
    with small.connect(), pytest.raises(Unreachable, match="no connection came free"):
        sweep_stale_claims(small)
    small.dispose()


TRANSIENT = {
    "XX000": "DbHandler exited",
    "25006": "cannot execute UPDATE in a read-only transaction",
    "58030": 'could not write to file "base/1": No space left on device',
    "57P01": "terminating connection due to administrator command",
    "57P02": "terminating connection because of crash of another server process",
    "57P03": "the database system is starting up",
    "57014": "canceling statement due to statement timeout",
    "53100": "could not extend file",
    "53200": "out of memory",
    "53300": "sorry, too many clients already",
    "08006": "connection failure",
    "08P01": "query_wait_timeout",
    "40001": "could not serialize access",
    "40P01": "deadlock detected",
    "55P03": "canceling statement due to lock timeout",
    "25P03": "terminating connection due to idle-in-transaction timeout",
    "26000": 'prepared statement "_pg3_0" does not exist',
    "28P01": "password authentication failed",
    "ZZ123": "a code of some later pooler",
}


@pytest.mark.parametrize("state", TRANSIENT)
def test_database_error_that_may_pass_is_transient(ledger, state):
    """Poolers, failovers and full disks: the call is repeated for as long as the lease holds."""
    assert isinstance(translated(ledger, state, TRANSIENT[state]), Transient)


@pytest.mark.parametrize("state", ["22P02", "23505", "42883", "42501", "VF002", "P0001", "0A000"])
def test_database_error_that_stays_is_a_refusal(ledger, state):
    """The same call would meet it again."""
    assert isinstance(translated(ledger, state, "no"), LedgerRefused)


@pytest.mark.parametrize(
    "says",
    [
        'connection failed: FATAL:  password authentication failed for user "box"',
        'connection failed: FATAL:  role "box" does not exist',
        'connection failed: FATAL:  database "ledger" does not exist',
        'connection failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
        "connection failed: FATAL:  Tenant or user not found",
        "connection failed: fe_sendauth: no password supplied",
    ],
)
def test_refused_login_is_not_an_unreachable_ledger(ledger, says):
    """The sentence names the login. Work in hand is kept, and a program without work ends as for bad input."""
    refused = translate_error(OperationalError("SELECT 1", {}, psycopg.OperationalError(says)), ledger, "f", {})
    assert "refuses the login of DATABASE_URL" in str(refused)
    assert isinstance(refused, Transient)
    assert not isinstance(refused, Unreachable)
    assert exit_code_of(refused) == ExitCode.BAD_INPUT


def test_error_without_a_state_and_connection_is_unreachable(ledger):
    """A closed socket gives such an error."""
    lost = OperationalError("SELECT 1", {}, psycopg.OperationalError("server closed the connection unexpectedly"))
    assert isinstance(translate_error(lost, ledger, "f", {}), Unreachable)


def translated(engine, state, message):
    error = type("ServerError", (psycopg.DatabaseError,), {"sqlstate": state})(message)
    return translate_error(DBAPIError("SELECT 1", {}, error), engine, "f", {})

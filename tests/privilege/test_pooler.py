"""A thief's settings on a pooler's shared connections, tried with PgBouncer in transaction mode."""

import os
from contextlib import suppress
from uuid import uuid4

import psycopg
import pytest
from psycopg.errors import UndefinedObject
from pydantic import SecretStr
from sqlalchemy import make_url

from tests.support.ledger_helpers import claim, execute
from tests.support.logins import PASSWORD, login_url
from tests.support.pgbouncer import PGBOUNCER, start_pgbouncer
from validation.domain import Progress
from validation.errors import Transient
from validation.ledger.boxes import issue_box_key
from validation.ledger.chunks import release_chunk, renew_chunk
from validation.ledger.engine import open_engine
from validation.ledger.workers import heartbeat_worker

pytestmark = [
    pytest.mark.attack,
    pytest.mark.skipif(
        PGBOUNCER is None and not os.environ.get("CI"),
        reason="no PgBouncer on this machine (apt-get install pgbouncer)",
    ),
]

RESET = "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1"
"""As docs/deploy.md configures PgBouncer."""
LEFT_BEHIND = (
    "SET default_transaction_read_only = on",
    "SET default_transaction_isolation = 'serializable'",
    "SET default_transaction_deferrable = on",
    "SET row_security = off",
    "SET synchronous_commit = off",
    "SET ROLE validation_worker",
    "SET search_path = pg_temp",
    "SET lock_timeout = '1ms'",
    "SET statement_timeout = '200ms'",
    "SET transaction_timeout = '1s'",
    "SET vfleet.box_key = 'mine'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SET idle_in_transaction_session_timeout = '1ms'",
)


@pytest.fixture
def box_login(ledger):
    """A login of the boxes, which all of them share."""
    name = f"boxes_{os.getpid()}"
    execute(ledger, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE validation_worker")
    yield name
    execute(ledger, f"DROP ROLE {name}")


@pytest.fixture
def work(ledger, seed, box_login):
    """The calls of an honest box through a pooler at a port."""
    seed(2)
    address = make_url(login_url(ledger.url.render_as_string(hide_password=False), box_login))
    key = SecretStr(issue_box_key(ledger, "ann"))

    def call_all(port: int) -> None:
        box = open_engine(address.set(port=port).render_as_string(hide_password=False), key)
        token = uuid4()
        repeat(lambda: heartbeat_worker(box, "ann", instance="ann-1"))
        held = repeat(lambda: claim(box, worker_id="ann", size=2, chunk_id=token))
        repeat(lambda: renew_chunk(box, held, Progress(segments=1)))
        assert repeat(lambda: release_chunk(box, held.chunk_id, reason="test")) == 2
        box.dispose()

    return call_all


def repeat(call):
    """Call again once, as a box does: a timeout of 1 ms that a thief left ends the session before its first call."""
    try:
        return call()
    except Transient:
        return call()


def leave(ledger, login: str, port: int, statement: str) -> None:
    """Connect as a thief, make a setting of the session, and go."""
    address = f"host=127.0.0.1 port={port} user={login} password={PASSWORD} dbname={ledger.url.database}"
    with psycopg.connect(address, autocommit=True, prepare_threshold=None) as thief, suppress(UndefinedObject):
        thief.execute(statement)  # an older Postgres does not know every setting


def test_settings_left_on_a_shared_connection_stop_no_other_box(ledger, postgres, box_login, work):
    """The thief has gone; an honest box on the same server connection works on, after each of its settings."""
    with start_pgbouncer(postgres.port, {box_login: PASSWORD}) as port:
        for statement in LEFT_BEHIND:
            leave(ledger, box_login, port, statement)
            work(port)


def test_documented_pooler_resets_what_a_client_left(ledger, postgres, box_login):
    """With the settings of the deployment page no setting reaches the next client at all."""
    with start_pgbouncer(postgres.port, {box_login: PASSWORD}, options=RESET) as port:
        leave(ledger, box_login, port, "SET default_transaction_read_only = on")
        address = f"host=127.0.0.1 port={port} user={box_login} password={PASSWORD} dbname={ledger.url.database}"
        with psycopg.connect(address, autocommit=True, prepare_threshold=None) as honest:
            assert honest.execute("SHOW default_transaction_read_only").fetchone() == ("off",)

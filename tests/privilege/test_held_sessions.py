"""Sessions and locks that a stolen box does not give back."""

import os

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.support.ledger_helpers import claim, execute
from validation.ledger.boxes import issue_box_key
from validation.ledger.maintenance import end_box_sessions
from validation.ledger.rpc import BoxKeyRejected
from validation.ledger.workers import heartbeat_worker, retire_worker

pytestmark = pytest.mark.attack


@pytest.fixture
def control(ledger, boxes, log_in):
    """The control machine's engine; the boxes' login is granted as docs/deploy.md says."""
    execute(ledger, f"GRANT validation_worker_{os.getpid()} TO validation_owner")
    return log_in("validation_control")


def renew(connection, chunk) -> None:
    connection.execute(
        text("SELECT validation.renew_chunk(:c, 'ann', 60, CAST(:p AS jsonb))"),
        {"c": chunk.chunk_id, "p": '{"videos_validated": 0, "videos_failed": 0, "segments": 0}'},
    )


def test_revocation_ends_the_transactions_of_the_box(boxes, control):
    """The box holds the locks of its chunk and of its worker in an open transaction."""
    chunk = claim(boxes["ann"], worker_id="ann", size=3)
    with boxes["ann"].connect() as thief:
        renew(thief, chunk)
        issue_box_key(control, "ann")
        assert end_box_sessions(control, idle_s=0, transaction_s=0) >= 1
        assert retire_worker(control, "ann") == 1
        with pytest.raises(DBAPIError):
            thief.execute(text("SELECT 1"))
        thief.invalidate()
    with pytest.raises(BoxKeyRejected):
        heartbeat_worker(boxes["ann"], "ann")
    heartbeat_worker(boxes["bob"], "bob")


@pytest.mark.parametrize("limits", [{"idle_s": 0, "transaction_s": 100}, {"idle_s": 100, "transaction_s": 0}])
def test_sweep_ends_only_transactions_that_idle_or_last_too_long(boxes, control, limits):
    """A session that has no transaction open, and the control machine's own, go on."""
    chunk = claim(boxes["ann"], worker_id="ann", size=3)
    heartbeat_worker(boxes["bob"], "bob")
    with boxes["ann"].connect() as thief, control.connect() as own:
        renew(thief, chunk)
        own.execute(text("SELECT validation.schema_revision()"))
        assert end_box_sessions(control, idle_s=100, transaction_s=100) == 0
        assert end_box_sessions(control, **limits) == 1
        own.execute(text("SELECT validation.schema_revision()"))
        thief.invalidate()


def test_control_machine_connects_while_boxes_hold_all_their_connections(ledger, boxes, control, log_in):
    """The boxes' login has a connection limit, as docs/deploy.md says; a box cannot raise it."""
    login = f"validation_worker_{os.getpid()}"
    execute(ledger, f"ALTER ROLE {login} CONNECTION LIMIT 2")
    end_box_sessions(control, idle_s=0, transaction_s=0)
    one, two, third = boxes["ann"], boxes["bob"], log_in("validation_worker")
    one.dispose()
    two.dispose()
    with one.connect(), two.connect():
        with pytest.raises(OperationalError, match="too many connections for role"):
            third.connect()
        issue_box_key(control, "ann")
        assert end_box_sessions(control, idle_s=0, transaction_s=0) == 2
    one.dispose()
    two.dispose()
    heartbeat_worker(boxes["bob"], "bob")

"""The lock of control runs: a control run waits until no other control run holds it.

A control run whose process died frees the lock at once, a control run on a lost machine within `IDLE_S` seconds.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from validation.domain import Seconds
from validation.ledger.rpc import translate_error

IDLE_S = 60
"""Seconds without a statement after which Postgres frees the lock of a lost machine.

The holder sends a statement four times in this period."""
_STATEMENT = text("SELECT validation.lock_control_run(:wait_s, :idle_s)")


@contextmanager
def hold_control_lock(engine: Engine, *, wait_s: int) -> Iterator[None]:
    """Wait until no other control run holds the lock, and hold the lock while the ``with`` block runs.

    The lock is held by an open transaction on a separate connection. Postgres frees the lock when this process dies.

    Raises:
        LedgerBusy: the other run still holds the lock after ``wait_s`` seconds.
        Unreachable, LoginRefused: the ledger does not answer or refuses the login.
    """
    with ExitStack() as opened:
        try:
            connection = opened.enter_context(engine.connect())
            connection.execute(_STATEMENT, {"wait_s": wait_s, "idle_s": IDLE_S})
        except DBAPIError as error:
            raise translate_error(error, engine, "lock_control_run", {}) from error
        ended = threading.Event()
        signs = threading.Thread(target=_send_keepalives, args=(connection, ended, IDLE_S / 4), daemon=True)
        signs.start()
        try:
            yield
        finally:
            ended.set()
            signs.join()


def _send_keepalives(connection: Connection, ended: threading.Event, every_s: Seconds) -> None:
    """Send a statement every ``every_s`` seconds until ``ended`` is set, so that the transaction does not time out.

    If Postgres ends the transaction, the control run continues without the lock: its steps are safe to repeat.
    """
    with suppress(DBAPIError):
        while not ended.wait(every_s):
            connection.execute(text("SELECT 1"))

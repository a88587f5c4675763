"""The lock of the control run: two of them never act at once, and a dead one delays no other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from validation.domain import Seconds
from validation.ledger.rpc import translate_error

IDLE_S = 60
"""After which Postgres frees the lock of a machine that was lost; a living one gives a sign every quarter of it."""
_STATEMENT = text("SELECT validation.lock_control_run(:wait_s, :idle_s)")


@contextmanager
def hold_control_lock(engine: Engine, *, wait_s: int) -> Iterator[None]:
    """Wait until no other control run is at work, and hold the lock while the block runs.

    The lock is a transaction of a connection of its own: Postgres frees it when this process dies, however it dies.

    Raises:
        LedgerBusy: the other run is still at work after ``wait_s``.
        Unreachable, LoginRefused: the ledger does not serve this call.
    """
    try:
        connection = engine.connect()
    except DBAPIError as error:
        raise translate_error(error, engine, "lock_control_run", {}) from error
    with connection:
        try:
            connection.execute(_STATEMENT, {"wait_s": wait_s, "idle_s": IDLE_S})
        except DBAPIError as error:
            raise translate_error(error, engine, "lock_control_run", {}) from error
        ended = threading.Event()
        signs = threading.Thread(target=_give_signs, args=(connection, ended, IDLE_S / 4), daemon=True)
        signs.start()
        try:
            yield
        finally:
            ended.set()
            signs.join()


def _give_signs(connection: Connection, ended: threading.Event, every_s: Seconds) -> None:
    """Keep the transaction from idling too long. If the ledger ends it, the run goes on: its steps may be repeated."""
    with suppress(DBAPIError):
        while not ended.wait(every_s):
            connection.execute(text("SELECT 1"))

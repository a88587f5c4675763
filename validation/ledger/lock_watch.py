"""Find out which session keeps a statement waiting, while it waits: an error for a lock names neither."""

import threading
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

PERIOD_S = 0.5
_BLOCKERS = """
    SELECT coalesce(waiting.relation::regclass::text, waiting.locktype), blocker.pid, blocker.usename,
           blocker.application_name, extract(epoch FROM now() - blocker.xact_start)::integer
    FROM pg_locks waiting
    JOIN pg_stat_activity own ON own.pid = waiting.pid
    CROSS JOIN unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
    JOIN pg_stat_activity blocker ON blocker.pid = blocking.pid
    WHERE NOT waiting.granted AND (own.pid = %(pid)s OR own.query = %(statement)s)
    LIMIT 1
"""


class LockWatch:
    """Look twice a second, over a connection of its own, who blocks a session. A context manager.

    The session is known by ``pid``, or by the text of its statement where a pooler hides its pid.
    """

    def __init__(self, engine: Engine, *, statement: str | None = None) -> None:
        self._engine, self._statement = engine, statement
        self.pid: int | None = None
        self._blocker = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lock-watch", daemon=True)

    def describe(self) -> str:
        """What was waited for last, for the end of a sentence; empty if nothing was."""
        return self._blocker

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(PERIOD_S):
            try:
                with self._engine.connect() as connection:
                    given = {"pid": self.pid, "statement": self._statement}
                    rows = connection.exec_driver_sql(_BLOCKERS, given).all()
            except SQLAlchemyError:  # the migration itself reports what is wrong with the database
                continue
            for table, pid, user, application, held_s in rows:
                program = f", {application}" if application else ""
                since = f", in a transaction for {held_s} s" if held_s is not None else ""
                self._blocker = f" waits for {table}, which session {pid} has locked (login {user}{program}{since})"

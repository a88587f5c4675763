"""Find out which session keeps a statement waiting, while it waits: the error of a lock timeout does not say."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

PERIOD_S = 0.5
LOCK_HOLDER = Path(__file__).resolve().parents[2] / "sql" / "migrate" / "lock_holder.sql"


class LockWatch:
    """A context manager that looks up twice a second, over a connection of its own, who blocks a session.

    The session is known by ``pid``, or by the text of its statement where a pooler hides the pid.
    """

    def __init__(self, engine: Engine, *, statement: str | None = None) -> None:
        self._engine, self._statement = engine, statement
        self.pid: int | None = None
        self._holder = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lock-watch", daemon=True)

    def describe(self) -> str:
        """Which session held the lock that was waited for last, as the end of a sentence; empty if none was."""
        return self._holder

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
                self._look()
            except SQLAlchemyError:  # the migration itself reports what is wrong with the database
                continue

    def _look(self) -> None:
        given = {"pid": self.pid, "statement": self._statement}
        with self._engine.connect() as connection:
            for row in connection.exec_driver_sql(LOCK_HOLDER.read_text(), given):
                program = f", {row.application}" if row.application else ""
                since = f", in a transaction for {row.held_s} s" if row.held_s is not None else ""
                self._holder = (
                    f" waits for {row.locked}, locked by session {row.pid} (login {row.login}{program}{since})"
                )

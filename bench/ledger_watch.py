"""Measure table sizes and the latency of the dashboard's views while the queue is processed."""

import threading
import time
from typing import Self

from sqlalchemy import Engine, text

from validation.ledger.queries import read_view

DASHBOARD = (
    "fleet_overview", "queue_progress", "eta", "cost_so_far", "worker_liveness", "progress_history",
    "throughput_recent", "workload",
)  # fmt: skip
"""The views that operators, the dispatcher and the flow `report-progress` read."""
TABLES = ("video_queue", "validation_chunks", "worker_validators", "validation_shards", "validation_results")
STATE = """
    SELECT s.relname AS name, pg_table_size(s.relid) AS table_bytes, pg_indexes_size(s.relid) AS index_bytes,
           s.n_dead_tup AS dead_rows, s.autovacuum_count AS vacuums, s.n_tup_upd AS updates,
           s.n_tup_hot_upd AS hot_updates
    FROM pg_stat_user_tables s
    WHERE s.relname = ANY (:tables)
"""
INDEXES = """
    SELECT indexrelname AS name, pg_relation_size(indexrelid) AS bytes
    FROM pg_stat_user_indexes
    WHERE relname = 'video_queue'
"""


class LedgerWatch:
    """Reads the table sizes and every view periodically in a thread, until the end of the ``with`` block."""

    def __init__(self, engine: Engine, *, every_s: float) -> None:
        self._engine, self._every_s = engine, every_s
        self.states: list[tuple[float, list[dict]]] = []
        self.latencies: list[tuple[str, float, float]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self.sample()
            if self._done.wait(self._every_s):
                return

    def sample(self) -> None:
        self.states.append((time.time(), read_rows(self._engine, STATE, tables=list(TABLES))))
        for view in DASHBOARD:
            started_s = time.perf_counter()
            read_view(self._engine, view)
            self.latencies.append((view, time.time(), time.perf_counter() - started_s))


def read_rows(engine: Engine, sql: str, **parameters: object) -> list[dict]:
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(sql), parameters).mappings()]

"""The worker's row: heartbeats through an outage, and the right to take a row over."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from tests.support.ledger_helpers import claim, execute, shard
from tests.support.stalled_proxy import StalledProxy
from validation.domain import Video, WorkerProfile
from validation.ledger.chunks import commit_chunk
from validation.ledger.engine import open_engine
from validation.ledger.rpc import WorkerIdTaken
from validation.ledger.seed import seed_videos
from validation.ledger.workers import register_worker
from validation.local.process import poll_until
from validation.worker.prefect import registration as ledger_row
from validation.worker.prefect.flow_processes import FlowProcesses
from validation.worker.prefect.registration import WorkerRegistration
from validation.worker.process_identity import (
    current_identity,
    is_confirmed_dead,
    process_start_time,
    remove_stale_dirs,
)


@pytest.fixture
def told():
    """The levels of what the row says in the log. Prefect's loggers need not pass on what they are told."""
    levels = []

    class Listener(logging.Handler):
        def emit(self, record):
            levels.append(record.levelname)

    listener = Listener()
    ledger_row.log.addHandler(listener)
    yield levels
    ledger_row.log.removeHandler(listener)


@contextmanager
def outage(postgres, name):
    """The database ends every connection and takes no new one."""
    with psycopg.connect(postgres.libpq_url(), autocommit=True) as admin:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def test_an_outage_of_the_ledger_is_told_once_and_survived(ledger, postgres, told):
    """A worker beats on through an outage. Its log says when it began and when it ended, not every thirty seconds."""
    row = WorkerRegistration(ledger.engine, WorkerProfile("box-1", config={"instance": str(current_identity())}))
    row.register()
    with outage(postgres, ledger.engine.url.database):
        for _ in range(3):
            asyncio.run(row.heartbeat())
        assert told == ["WARNING"]
    for _ in range(2):
        asyncio.run(row.heartbeat())
    assert told == ["WARNING", "INFO"]


def test_a_row_is_taken_over_from_the_dead_and_from_nobody_else(ledger):
    """Two lives of one box may follow each other at once; two boxes that share an id by mistake may not."""
    with child() as (dead, end):
        register_worker(ledger.engine, WorkerProfile("box-1", config={"instance": str(dead)}))
        row = WorkerRegistration(ledger.engine, WorkerProfile("box-1", config={"instance": str(current_identity())}))
        with pytest.raises(WorkerIdTaken, match=str(dead)):
            row.register()
        end()
    row.register()


def test_a_process_is_known_dead_when_it_has_ended_whether_or_not_it_was_reaped():
    """In a container the first process may never collect its children: they stay listed, but do not run."""
    with child() as (instance, end):
        assert not is_confirmed_dead(str(instance))
        end()
        assert is_confirmed_dead(str(instance))  # a zombie
    assert is_confirmed_dead(str(instance))  # gone
    assert is_confirmed_dead(str(replace(current_identity(), started="0")))  # its pid is another's now


def test_a_process_that_cannot_be_seen_from_here_is_not_known_dead():
    """Another host, another boot, another container: its pid means nothing here."""
    gone = replace(current_identity(), started="0")
    for elsewhere in (
        replace(gone, host="other"),
        replace(gone, boot_id="other"),
        replace(gone, pid_namespace="other"),
    ):
        assert not is_confirmed_dead(str(elsewhere))
    assert not is_confirmed_dead("an instance of another making")


@contextmanager
def child():
    """A process, and how to end it without reaping it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:

        def end():
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        yield replace(current_identity(), pid=process.pid, started=process_start_time(process.pid)), end


def test_a_worker_that_is_distrusted_ends_as_if_told_to(ledger, told):
    """At its next heartbeat: it would take flow runs from others, and get no work for them."""
    engine = ledger.engine
    seed_videos(engine, [Video("v0000", "hi", 3)])
    row = WorkerRegistration(engine, WorkerProfile("ann", config={"instance": str(current_identity())}))
    row.register()
    chunk = claim(engine)
    commit_chunk(engine, chunk.chunk_id, shard=shard(of=chunk), validated={"v0000": 3}, failed=[], max_attempts=3)
    execute(engine, "INSERT INTO validation.canaries VALUES ('v0000', 'local', '{}', '[{}]')")
    execute(
        engine,
        "INSERT INTO validation.canary_evaluations (video_id, chunk_id, outcome, finding) "
        "VALUES ('v0000', :c, 'wrong', 'x')",
        c=chunk.chunk_id,
    )
    heard = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        asyncio.run(row.heartbeat())
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert (heard, told) == ([signal.SIGTERM], ["ERROR"])


def test_a_frozen_ledger_holds_up_the_end_for_seconds_only(ledger, postgres, monkeypatch):
    """It has taken each question, so no connection is lost. Neither a beat under way nor a goodbye is waited for long,
    and the end of the process waits for no thread of theirs."""
    monkeypatch.setattr(ledger_row, "LEDGER_CALL_TIMEOUT_S", 0.2)
    with StalledProxy(postgres.port) as line:
        engine = open_engine(line.lead(ledger.url))
        row = WorkerRegistration(engine, WorkerProfile("box-1", config={"instance": str(current_identity())}))
        row.register()

        async def end() -> None:
            line.freeze_after(b"heartbeat_worker")
            row.start_heartbeat(0.01)
            assert await asyncio.to_thread(poll_until, lambda: line.is_frozen, within_s=10)
            await row.announce_drain()
            await row.retire()

        began = time.monotonic()
        asyncio.run(end())
        assert time.monotonic() - began < 10
    engine.dispose()


def test_the_lives_of_a_worker_share_nothing(tmp_path, monkeypatch):
    """A life that was succeeded asks its own flow runs to drain. What ended lives left goes at the next start; those of
    another worker, whose name begins alike, and of one that still runs stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with child() as (dead, end):
        end()
    lives = {"own": os.getpid(), "running": os.getppid(), "ended": dead.pid}
    files = {}
    for name, pid in lives.items():
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        files[name] = FlowProcesses("box-1").drain_file
        FlowProcesses("box-1").ask_to_drain()
    FlowProcesses("box-1-2").ask_to_drain()
    monkeypatch.setattr(os, "getpid", lambda: lives["own"])
    assert len(set(files.values())) == 3

    remove_stale_dirs("box-1")
    left = {f"vfleet-inference-box-1-{lives['running']}", f"vfleet-inference-box-1-2-{lives['ended']}"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert files["running"].exists()

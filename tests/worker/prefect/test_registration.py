"""The worker's row in the ledger: heartbeats during an outage, and when a row is taken over."""

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
from validation.worker.prefect import registration
from validation.worker.prefect.flow_processes import FlowProcesses
from validation.worker.prefect.registration import WorkerRegistration
from validation.worker.profile import (
    current_identity,
    is_confirmed_dead,
    process_start_time,
    remove_stale_dirs,
)


@pytest.fixture
def log_levels():
    """The levels of the log records of the registration. Prefect may not propagate them, so a handler is added here."""
    levels = []

    class LevelRecorder(logging.Handler):
        def emit(self, record):
            levels.append(record.levelname)

    recorder = LevelRecorder()
    registration.log.addHandler(recorder)
    yield levels
    registration.log.removeHandler(recorder)


@contextmanager
def outage(postgres, name):
    """The database closes every connection and accepts no new one while the block runs."""
    with psycopg.connect(postgres.libpq_url(), autocommit=True) as admin:
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))


def test_ledger_outage_is_logged_once_at_its_begin_and_end(ledger, postgres, log_levels):
    """Heartbeats go on during the outage; the log has one warning at its begin and one line at its end."""
    row = WorkerRegistration(ledger.engine, WorkerProfile("box-1", config={"instance": str(current_identity())}))
    row.register()
    with outage(postgres, ledger.engine.url.database):
        for _ in range(3):
            asyncio.run(row.heartbeat())
        assert log_levels == ["WARNING"]
    for _ in range(2):
        asyncio.run(row.heartbeat())
    assert log_levels == ["WARNING", "INFO"]


def test_row_is_taken_over_only_from_a_dead_process(ledger):
    """A restarted worker takes its row over at once; a second box with the same id is refused."""
    with child() as (dead, end):
        register_worker(ledger.engine, WorkerProfile("box-1", config={"instance": str(dead)}))
        row = WorkerRegistration(ledger.engine, WorkerProfile("box-1", config={"instance": str(current_identity())}))
        with pytest.raises(WorkerIdTaken, match=str(dead)):
            row.register()
        end()
    row.register()


def test_ended_process_is_confirmed_dead_even_as_a_zombie():
    """The first process of a container may never reap its children, so a zombie counts as dead."""
    with child() as (instance, end):
        assert not is_confirmed_dead(str(instance))
        end()
        assert is_confirmed_dead(str(instance))  # a zombie
    assert is_confirmed_dead(str(instance))  # gone
    assert is_confirmed_dead(str(replace(current_identity(), started="0")))  # its pid is another's now


def test_process_of_another_machine_is_not_confirmed_dead():
    """On another host, boot or pid namespace the pid means nothing here."""
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
    """A child process, and a function that kills it without reaping it."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:

        def end():
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        yield replace(current_identity(), pid=process.pid, started=process_start_time(process.pid)), end


def test_quarantined_worker_drains_at_its_next_heartbeat(ledger, log_levels):
    """It would take flow runs from other workers and get no work for them."""
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
    signals = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        asyncio.run(row.heartbeat())
    finally:
        signal.signal(signal.SIGTERM, usual)
    assert (signals, log_levels) == ([signal.SIGTERM], ["ERROR"])


def test_unresponsive_ledger_delays_the_end_of_a_worker_by_seconds(ledger, postgres, monkeypatch):
    """Neither a pending heartbeat nor the retirement is waited for long, and no thread delays the exit."""
    monkeypatch.setattr(registration, "LEDGER_CALL_TIMEOUT_S", 0.2)
    with StalledProxy(postgres.port) as proxy:
        engine = open_engine(proxy.address_through(ledger.url))
        row = WorkerRegistration(engine, WorkerProfile("box-1", config={"instance": str(current_identity())}))
        row.register()

        async def end() -> None:
            proxy.freeze_after(b"heartbeat_worker")
            row.start_heartbeat(0.01)
            assert await asyncio.to_thread(poll_until, lambda: proxy.is_frozen, within_s=10)
            await row.announce_drain()
            await row.retire()

        began = time.monotonic()
        asyncio.run(end())
        assert time.monotonic() - began < 10
    engine.dispose()


def test_sessions_of_a_worker_share_no_files(tmp_path, monkeypatch):
    """Each session has its own drain file. A start deletes the files of ended sessions of its worker only."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with child() as (dead, end):
        end()
    sessions = {"own": os.getpid(), "running": os.getppid(), "ended": dead.pid}
    files = {}
    for name, pid in sessions.items():
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        files[name] = FlowProcesses("box-1").drain_file
        FlowProcesses("box-1").ask_to_drain()
    FlowProcesses("box-1-2").ask_to_drain()
    monkeypatch.setattr(os, "getpid", lambda: sessions["own"])
    assert len(set(files.values())) == 3

    remove_stale_dirs("box-1")
    left = {f"vfleet-inference-box-1-{sessions['running']}", f"vfleet-inference-box-1-2-{sessions['ended']}"}
    assert {path.name for path in tmp_path.iterdir()} == left
    assert files["running"].exists()

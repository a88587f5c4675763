"""The supervisor of the inference server: it starts the server, restarts it, and ends it with the worker."""

import asyncio
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from prefect.workers.process import ProcessWorker

from validation.domain import Scored, Utterance
from validation.inference.client import InferenceClient
from validation.inference.client_io import read_status
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE, find_socket
from validation.local.process import poll_until
from validation.worker.prefect import inference_supervisor as supervisors
from validation.worker.prefect.worker import VastGpuWorker

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

NOISE = Utterance(np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32), "", None)


def test_worker_keeps_one_inference_server(ledger, prefect, start_worker, monkeypatch):
    """A flow process finds the server by its environment; a killed server is replaced, a stopped one leaves no file."""
    run = prefect.schedule(prefect.deploy())
    worker = start_worker(ledger.url)
    worker.wait_until(lambda: prefect.state(run)["type"] == "RUNNING", within_s=120, what="the run has begun")
    (flow_process,) = worker.flow_processes()
    socket = Path(flow_process.environ()[INFERENCE_SOCKET_VARIABLE])
    monkeypatch.setattr(tempfile, "tempdir", str(worker.folder))
    assert find_socket("box-1") == socket  # as `vfleet inference status` does
    with InferenceClient(socket, reconnect_timeout_s=120) as scorer:
        (before,) = scorer.score([NOISE])
        assert isinstance(before["silero"], Scored)

        (server,) = worker.inference_servers()
        server.kill()
        assert scorer.score([NOISE]) == [before]
    (successor,) = worker.inference_servers()
    assert successor.pid != server.pid
    assert flow_process.is_running()

    worker.send(signal.SIGTERM)
    assert worker.exit_code(within_s=60) == 0
    assert poll_until(lambda: not successor.is_running(), within_s=10)
    assert worker.leftovers() == []
    assert re.search(r"the inference server ended with code -9; it is restarted in 1 s", worker.stderr())


def test_hung_server_is_killed_and_replaced(monkeypatch, tmp_path):
    """A server that does not answer in time is killed; its clients continue with the next one. No Prefect is needed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("VFLEET_SUITE", "vad")
    monkeypatch.setattr(supervisors, "CHECK_PERIOD_S", 0.2)
    monkeypatch.setattr(supervisors, "STATUS_TIMEOUT_S", 2.0)

    async def hang() -> None:
        supervisor = supervisors.InferenceSupervisor("hangs", on_give_up=pytest.fail)
        suite = await supervisor.start()
        assert suite.name == "vad"
        hung = read_status(supervisor.socket)["pid"]
        os.kill(hung, signal.SIGSTOP)
        with await asyncio.to_thread(InferenceClient, supervisor.socket) as scorer:
            assert isinstance((await asyncio.to_thread(scorer.score, [NOISE]))[0]["silero"], Scored)
        assert (await asyncio.to_thread(read_status, supervisor.socket))["pid"] != hung
        await supervisor.stop()

    asyncio.run(hang())
    assert list(tmp_path.iterdir()) == []


def test_server_whose_socket_was_deleted_is_replaced(monkeypatch, tmp_path):
    """New clients cannot find a server without its socket, so it is killed and started again."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("VFLEET_SUITE", "vad")
    monkeypatch.setattr(supervisors, "CHECK_PERIOD_S", 0.2)

    async def lose() -> None:
        supervisor = supervisors.InferenceSupervisor("lost", on_give_up=pytest.fail)
        await supervisor.start()
        lost = read_status(supervisor.socket)["pid"]
        supervisor.socket.unlink()
        assert await asyncio.to_thread(poll_until, supervisor.socket.exists, within_s=60)
        assert (await asyncio.to_thread(read_status, supervisor.socket))["pid"] != lost
        await supervisor.stop()

    asyncio.run(lose())


def test_server_that_hangs_while_loading_is_ended(monkeypatch, tmp_path):
    """A start without a message within the time-out has failed, and no process is left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(supervisors, "LOAD_TIMEOUT_S", 0.1)

    async def load() -> None:
        supervisor = supervisors.InferenceSupervisor("slow", on_give_up=pytest.fail)
        with pytest.raises(supervisors.ServerExited, match="sent no message within 0 s"):
            await supervisor.start()
        assert supervisor._process.returncode is not None

    asyncio.run(load())


def test_incomplete_ready_line_counts_as_an_exit(monkeypatch, tmp_path):
    """An unreadable message is no reason to give up: the server is restarted as after any exit."""
    torn = tmp_path / "python"
    torn.write_text("#!/bin/sh\nprintf '{\"ready\": {'\n")
    torn.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(torn))
    with pytest.raises(supervisors.ServerExited, match="sent no message"):
        asyncio.run(supervisors.InferenceSupervisor("torn", on_give_up=pytest.fail).start())


def run_failing_supervisor(starts, error) -> str:
    """Run a supervisor whose starts succeed or raise ``error``, as ``starts`` says; return what it gave up with."""

    class FailingSupervisor(supervisors.InferenceSupervisor):
        async def _launch(self):
            self._process = await asyncio.create_subprocess_exec("true")
            await self._process.wait()
            if not next(starts):
                raise error

    async def give_up() -> str:
        given_up = asyncio.get_running_loop().create_future()
        supervisor = FailingSupervisor("failing", on_give_up=given_up.set_result)
        await supervisor.start()
        refusal = await asyncio.wait_for(given_up, 60)
        await supervisor.stop()
        return str(refusal)

    return asyncio.run(give_up())


def test_supervisor_gives_up_after_five_failed_starts(monkeypatch, tmp_path):
    """A successful start in between restarts the count. No Prefect is needed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(supervisors, "FIRST_PAUSE_S", 0.0)
    starts = iter([True, False, False, False, False, True, *[False] * 5])
    refusal = supervisors.StartRefused("model mms fails on this machine before any work")
    assert run_failing_supervisor(starts, refusal) == "model mms fails on this machine before any work"
    assert list(starts) == []


def test_pauses_grow_while_starts_fail(monkeypatch, tmp_path, caplog):
    """Only a server that was ready for long resets the pause; a failed start never does."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(supervisors, "STABLE_AFTER_S", -1.0)  # a ready server is stable at once
    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: real_sleep(0))
    with caplog.at_level("WARNING"):
        run_failing_supervisor(
            iter([True, False, False, False, True, *[False] * 5]), supervisors.ServerExited("it ended")
        )
    pauses = [found[1] for found in re.finditer(r"restarted in (\d+) s", caplog.text)]
    assert pauses == ["1", "2", "4", "8", "1", "2", "4", "8", "16"]


def test_a_process_that_cannot_be_started_is_a_failed_start(monkeypatch, tmp_path):
    """Without a Python interpreter the start fails with one sentence, which counts towards the five failed starts."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "deleted"))
    with pytest.raises(supervisors.ServerExited, match=r"cannot be started: .*deleted"):
        asyncio.run(supervisors.InferenceSupervisor("none", on_give_up=pytest.fail).start())


def test_worker_exits_with_the_supervisors_error(monkeypatch, capsys):
    """The worker stops polling and exits with 2, so its bootstrap counts an exit."""

    async def serve(worker, *_):
        worker._stop_on_fatal(asyncio.current_task(), supervisors.StartRefused("the GPU is broken"))
        await asyncio.Event().wait()

    monkeypatch.setattr(ProcessWorker, "start", serve)
    with pytest.raises(SystemExit) as ended:
        asyncio.run(VastGpuWorker("vast-gpu", name="box-1").start())
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "the GPU is broken"


def test_worker_without_weights_is_refused_with_one_sentence(ledger, prefect, start_worker):
    """Without its weights the worker claims nothing, says what is missing, and is offline in the ledger."""
    worker = start_worker(ledger.url, VFLEET_SUITE="indic")
    assert worker.exit_code(within_s=120) == 2
    assert worker.stderr().startswith("VFLEET_WEIGHTS is not set"), worker.stderr()
    assert len(worker.stderr().splitlines()) == 1
    assert ledger.value("SELECT status FROM worker_validators WHERE worker_id = 'box-1'") == "offline"
    assert worker.leftovers() == []
    assert prefect.workers() == []


def test_worker_stopped_while_models_load_exits_at_once(ledger, start_worker):
    """A large suite loads for minutes; a SIGTERM does not wait for it."""
    worker = start_worker(ledger.url, VFLEET_SUITE="local")
    worker.wait_until(lambda: worker.inference_servers() != [], within_s=120, what="its inference server is starting")
    worker.send(signal.SIGTERM)
    assert worker.exit_code(within_s=60) == 0
    assert ledger.value("SELECT status FROM worker_validators WHERE worker_id = 'box-1'") == "offline"
    assert worker.leftovers() == []

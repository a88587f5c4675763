"""A worker keeps one model host: there before any flow run, back after its death, gone with the worker."""

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

pytestmark = pytest.mark.timeout(300)  # the first of them waits for the Prefect server as well

NOISE = Utterance(np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32), "", None)


def test_a_worker_keeps_a_model_host(ledger, prefect, start_worker, monkeypatch):
    """A flow process finds it through its environment and answers through it; a host that is killed is replaced, and
    one that is stopped leaves nothing."""
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

        (host,) = worker.model_hosts()
        host.kill()
        assert scorer.score([NOISE]) == [before]
    (successor,) = worker.model_hosts()
    assert successor.pid != host.pid
    assert flow_process.is_running()

    worker.send(signal.SIGTERM)
    assert worker.exit_code(within_s=60) == 0
    assert poll_until(lambda: not successor.is_running(), within_s=10)
    assert worker.litter() == []
    assert re.search(r"the inference server ended with code -9; it is restarted in 1 s", worker.told())


def test_a_host_that_hangs_is_killed_and_replaced(monkeypatch, tmp_path):
    """One that does not answer in time is as good as dead, and its clients wait for its successor. No Prefect here."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("VFLEET_SUITE", "vad")
    monkeypatch.setattr(supervisors, "CHECK_PERIOD_S", 0.2)
    monkeypatch.setattr(supervisors, "STATUS_TIMEOUT_S", 2.0)

    async def hang() -> None:
        host = supervisors.InferenceSupervisor("hangs", on_give_up=pytest.fail)
        suite = await host.start()
        assert suite.name == "vad"
        hung = read_status(host.socket)["pid"]
        os.kill(hung, signal.SIGSTOP)
        with await asyncio.to_thread(InferenceClient, host.socket) as scorer:
            assert isinstance((await asyncio.to_thread(scorer.score, [NOISE]))[0]["silero"], Scored)
        assert (await asyncio.to_thread(read_status, host.socket))["pid"] != hung
        await host.stop()

    asyncio.run(hang())
    assert list(tmp_path.iterdir()) == []


def test_a_host_that_lost_its_socket_is_replaced(monkeypatch, tmp_path):
    """It lives, but no new client finds it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("VFLEET_SUITE", "vad")
    monkeypatch.setattr(supervisors, "CHECK_PERIOD_S", 0.2)

    async def lose() -> None:
        host = supervisors.InferenceSupervisor("lost", on_give_up=pytest.fail)
        await host.start()
        lost = read_status(host.socket)["pid"]
        host.socket.unlink()
        assert await asyncio.to_thread(poll_until, host.socket.exists, within_s=60)
        assert (await asyncio.to_thread(read_status, host.socket))["pid"] != lost
        await host.stop()

    asyncio.run(lose())


def test_a_host_that_hangs_while_it_loads_is_ended(monkeypatch, tmp_path):
    """A start that says nothing within its time has failed, and leaves no process."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(supervisors, "LOAD_TIMEOUT_S", 0.1)

    async def load() -> None:
        host = supervisors.InferenceSupervisor("slow", on_give_up=pytest.fail)
        with pytest.raises(supervisors.ServerExited, match="sent no message within 0 s"):
            await host.start()
        assert host._process.returncode is not None

    asyncio.run(load())


def test_a_host_that_dies_in_the_midst_of_a_word_has_died(monkeypatch, tmp_path):
    """What cannot be read is no reason to keep no host any more: it is started again like any that died."""
    torn = tmp_path / "python"
    torn.write_text("#!/bin/sh\nprintf '{\"ready\": {'\n")
    torn.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(torn))
    with pytest.raises(supervisors.ServerExited, match="sent no message"):
        asyncio.run(supervisors.InferenceSupervisor("torn", on_give_up=pytest.fail).start())


def test_a_host_that_never_serves_again_is_given_up(monkeypatch, tmp_path):
    """Five starts in a row that come to nothing are the machine's fault; one that serves is forgotten. No Prefect."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(supervisors, "FIRST_PAUSE_S", 0.0)
    starts = iter([True, False, False, False, False, True, *[False] * 5])

    class Doomed(supervisors.InferenceSupervisor):
        async def _launch(self):
            self._process = await asyncio.create_subprocess_exec("true")
            await self._process.wait()
            if not next(starts):
                raise supervisors.StartRefused("model mms fails on this machine before any work")

    async def give_up() -> str:
        hopeless = asyncio.get_running_loop().create_future()
        host = Doomed("doomed", on_give_up=hopeless.set_result)
        await host.start()
        refusal = await asyncio.wait_for(hopeless, 60)
        await host.stop()
        return str(refusal)

    assert asyncio.run(give_up()) == "model mms fails on this machine before any work"
    assert list(starts) == []


def test_a_worker_without_hope_of_a_host_ends_with_its_sentence(monkeypatch, capsys):
    """It stops polling and exits with 2, so that its box counts an end, and after some of them gives itself back."""

    async def serve(worker, *_):
        worker._stop_on_fatal(asyncio.current_task(), supervisors.StartRefused("the card is broken"))
        await asyncio.Event().wait()

    monkeypatch.setattr(ProcessWorker, "start", serve)
    with pytest.raises(SystemExit) as ended:
        asyncio.run(VastGpuWorker("vast-gpu", name="box-1").start())
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == "the card is broken"


def test_a_worker_whose_host_cannot_start_is_refused_with_that_sentence(ledger, prefect, start_worker):
    """A machine without its weights claims nothing: it says what is wrong, and leaves the ledger in order."""
    worker = start_worker(ledger.url, VFLEET_SUITE="indic")
    assert worker.exit_code(within_s=120) == 2
    assert worker.told().startswith("VFLEET_WEIGHTS is not set"), worker.told()
    assert len(worker.told().splitlines()) == 1
    assert ledger.value("SELECT status FROM worker_validators WHERE worker_id = 'box-1'") == "offline"
    assert worker.litter() == []
    assert prefect.workers() == []


def test_a_worker_told_to_stop_while_its_models_load_ends_at_once(ledger, start_worker):
    """A large suite loads for minutes; a stop of the worker does not wait for it."""
    worker = start_worker(ledger.url, VFLEET_SUITE="local")
    worker.wait_until(lambda: worker.model_hosts() != [], within_s=120, what="its host is starting")
    worker.send(signal.SIGTERM)
    assert worker.exit_code(within_s=60) == 0
    assert ledger.value("SELECT status FROM worker_validators WHERE worker_id = 'box-1'") == "offline"
    assert worker.litter() == []

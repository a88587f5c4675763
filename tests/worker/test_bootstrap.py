"""The bootstrap of a box: it checks the box, restarts its worker, and destroys the instance when it is of no use."""

import os
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from uuid import uuid4

import numpy as np
import psutil
import pytest
from prefect.client.schemas.objects import FlowRun

from simulation.fake_vast.transport import FakeTransport
from tests.support.fleet_builders import make_offer
from tests.support.vast_helpers import ORDER, VirtualClock
from validation.domain import Fault, Scored, Unscored
from validation.errors import BadInput
from validation.fleet.launch_spec import DEFAULTS, LaunchSpec, build_create_request, read_box_environment
from validation.ledger.engine import open_engine
from validation.local.process import is_alive, poll_until
from validation.models.self_test import SelfTestFailed, make_noise, run_self_test
from validation.settings import load_settings
from validation.vast.offer_filter import OfferFilter
from validation.vast.rate_limit import InterruptibleClock
from validation.worker import bootstrap
from validation.worker.bootstrap import (
    MAX_RESTARTS,
    RESTART_S,
    BoxEndPolicy,
    InstanceInfo,
    destroy_self,
    find_box_problem,
    find_model_problem,
    has_flows,
    run_worker,
)
from validation.worker.prefect.flow_processes import VastGpuJobConfiguration

RENTAL = InstanceInfo("1", "key", "http://fake", lifetime_s=10_000, idle_s=600)
BOX_VARIABLES = {
    "BOX_DATABASE_URL": "postgresql://box@h/d",
    "BOX_R2_ENDPOINT_URL": "https://r2",
    "BOX_PREFECT_API_URL": "https://p",
}


def rent_one(fake) -> InstanceInfo:
    """Rent one offer of the fake vendor; return the instance with its own key."""
    offer = next(number for number, offer in fake.cloud.offers.items() if offer["rentable"])
    rental = fake.cloud.create(offer, ORDER)
    return replace(RENTAL, instance_id=str(rental.id), key=rental.key)


def test_box_destroys_its_instance_with_its_own_key(fake):
    """The key of an instance destroys this instance and no other."""
    first, second = rent_one(fake), rent_one(fake)
    assert destroy_self(first, clock=VirtualClock(fake), transport=FakeTransport(fake))
    assert [str(rental.id) for rental in fake.cloud.living()] == [second.instance_id]
    other = replace(second, key=first.key)
    assert not destroy_self(other, clock=VirtualClock(fake), transport=FakeTransport(fake))
    assert [str(rental.id) for rental in fake.cloud.living()] == [second.instance_id]


def test_destroy_is_repeated_until_the_vendor_accepts_it(fake):
    """A vendor that is unavailable for some minutes is asked again."""
    rental = rent_one(fake)
    fake.connection.play_next("destroy", "html_502", "reject_then_502", "refuse_politely")
    fake.connection.play_next("destroy", "none")
    assert destroy_self(rental, clock=VirtualClock(fake), transport=FakeTransport(fake))
    assert fake.cloud.living() == []


def test_machine_outside_the_fleet_is_never_destroyed(fake):
    """On a machine without an instance id no request is sent."""
    assert not destroy_self(replace(RENTAL, instance_id=None), clock=VirtualClock(fake))


def test_box_is_destroyed_after_ten_idle_minutes():
    """A busy box stays, and so does one that worked less than ten minutes ago."""
    policy = BoxEndPolicy(RENTAL, started_at=0)
    assert policy.find_reason_to_end(590, busy=True) is None
    assert policy.find_reason_to_end(1100, busy=False) is None
    assert policy.find_reason_to_end(1200, busy=False) == "idle for 600 s"


def test_box_is_destroyed_at_the_end_of_its_lifetime():
    """A box past its lifetime is destroyed even if it is busy."""
    assert BoxEndPolicy(RENTAL, started_at=0).find_reason_to_end(10_001, busy=True) == "past its lifetime of 10000 s"


def test_more_than_ten_restarts_within_an_hour_end_the_box():
    """Ten restarts within an hour are allowed; restarts of more than an hour ago do not count."""
    policy = BoxEndPolicy(RENTAL, started_at=0)
    for end in range(MAX_RESTARTS + 1):
        policy.on_exit(end * 1000.0)
    assert policy.find_reason_to_end(1, busy=True) is None
    for _ in range(MAX_RESTARTS):
        policy.on_exit(10_000.0)
    assert "within an hour" in policy.find_reason_to_end(10_000, busy=True)


SCRIPT = """
import os, pathlib, signal, sys
log = pathlib.Path(sys.argv[1])
again = log.exists()
signal.signal(signal.SIGTERM, lambda *_: (log.open("a").write("drained"), sys.exit()))
log.open("a").write(f"{os.getpid()} ")
if again:
    signal.pause()
"""


class WorkerClock:
    """Virtual time that waits for the first worker process to exit and for the second one to start."""

    def __init__(self, fake, log) -> None:
        self.time, self.log, self.restarted = VirtualClock(fake), log, False

    def monotonic(self) -> float:
        return self.time.monotonic()

    def read_log(self) -> list[str]:
        """The pids of the worker processes so far, and the word `drained` at the end."""
        return self.log.read_text().split() if self.log.exists() else []

    def sleep(self, seconds) -> None:
        self.time.sleep(seconds)
        if seconds == RESTART_S:
            self.restarted = True
        elif self.restarted:
            assert poll_until(lambda: len(self.read_log()) > 1, within_s=30)
        else:
            assert poll_until(lambda: self.read_log() != [] and not self.first_session_runs(), within_s=30)

    def first_session_runs(self) -> bool:
        """Whether the first worker process still runs."""
        try:
            return is_alive(psutil.Process(int(self.read_log()[0])))
        except psutil.NoSuchProcess:
            return False


def test_worker_is_restarted_and_drained_at_the_end(fake, tmp_path):
    """Two real processes: the first exits by itself and is restarted, the second is drained."""
    clock = WorkerClock(fake, tmp_path / "log")
    command = [sys.executable, "-c", SCRIPT, str(clock.log)]
    assert (
        run_worker(command, BoxEndPolicy(RENTAL, fake.cloud.now), clock=clock, busy=lambda: False) == "idle for 600 s"
    )
    first, second, end = clock.read_log()
    assert first != second
    assert end == "drained"


ENTRYPOINT = """
import sys
from validation.worker import bootstrap
from validation.vast.rate_limit import InterruptibleClock
bootstrap.POLL_S = bootstrap.RESTART_S = 3600.0
rental = bootstrap.InstanceInfo(None, "", "", lifetime_s=1e9, idle_s=1e9)
with InterruptibleClock() as clock:
    policy = bootstrap.BoxEndPolicy(rental, clock.monotonic())
    print(bootstrap.run_worker(sys.argv[1:], policy, clock=clock, busy=lambda: False))
"""


def test_sigterm_interrupts_the_poll_and_drains_the_worker(tmp_path):
    """A real SIGTERM during a poll pause of an hour drains the worker at once: a container has ten seconds to stop."""
    log = tmp_path / "log"
    log.touch()  # the script stays if its log exists
    command = [sys.executable, "-c", ENTRYPOINT, sys.executable, "-c", SCRIPT, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as entrypoint:
        assert poll_until(lambda: log.read_text().endswith(" "), within_s=30)
        entrypoint.terminate()
        reason, _ = entrypoint.communicate(timeout=30)
    assert reason == "stopped by a signal\n"
    assert log.read_text().endswith(" drained")


def test_no_worker_is_started_after_a_signal(fake, tmp_path):
    """If the signal arrives between an exit and the restart, no further worker is started."""
    log = tmp_path / "log"

    class Stopping(WorkerClock):
        def sleep(self, seconds) -> None:
            super().sleep(seconds)
            if seconds == RESTART_S:
                os.kill(os.getpid(), signal.SIGTERM)

    command = [sys.executable, "-c", SCRIPT, str(log)]
    reason = run_worker(command, BoxEndPolicy(RENTAL, fake.cloud.now), clock=Stopping(fake, log), busy=lambda: False)
    assert reason == "stopped by a signal"
    assert len(log.read_text().split()) == 1


def test_signal_before_the_sleep_ends_the_sleep():
    """No signal is lost between the check for a stop and the sleep."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with InterruptibleClock() as clock:
        os.kill(os.getpid(), signal.SIGUSR1)
        clock.sleep(3600.0)
    signal.signal(signal.SIGUSR1, before)


def test_only_flow_processes_count_as_work(tmp_path):
    """A flow process counts, with the command that the worker gives it; the worker and the inference server do not."""
    (tmp_path / "12").mkdir()
    (tmp_path / "12/cmdline").write_bytes(b"python\0-m\0prefect\0worker\0")
    (tmp_path / "14").mkdir()
    (tmp_path / "14/cmdline").write_bytes(
        b"python\0-m\0validation.child_process\0--module\0validation.inference\x0012\0"
    )
    assert not has_flows(tmp_path)
    (tmp_path / "13").mkdir()
    job = VastGpuJobConfiguration()
    job.prepare_for_flow_run(FlowRun(flow_id=uuid4()))
    (tmp_path / "13/cmdline").write_bytes(b"\0".join(word.encode() for word in [*shlex.split(job.command), ""]))
    assert has_flows(tmp_path)


GPU = "NVIDIA GeForce RTX 3090, 580.65.06"


@pytest.mark.parametrize(
    ("driver", "fault"),
    [
        ("580.65.06", None),
        ("590.44.01", None),
        ("535.183.01", "driver 535.183.01 supports CUDA 12 at most, and this image was built for CUDA 13"),
        ("580.05", "driver 580.05 supports CUDA 12 at most"),
    ],
)  # fmt: skip
def test_driver_too_old_for_the_image_is_named(monkeypatch, tmp_path, driver, fault):
    """The driver version is read from `nvidia-smi`, before the ledger is asked or a model is loaded."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.format(driver=driver))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(bootstrap, "find_built_cuda_major", lambda: 13)
    found = find_box_problem({"GPU_TYPE": "RTX_3090"})
    assert ("DATABASE_URL" in found) if fault is None else found.startswith(fault)


SMI = """#!/bin/sh
test "$*" = "--query-gpu=name,driver_version --format=csv,noheader" || exit 2
echo 'NVIDIA GeForce RTX 3090, {driver}'
"""


def test_box_that_cannot_work_names_the_problem(ledger, tmp_path):
    """Another GPU than ordered, no ledger, or models that do not load: each has its sentence."""
    url = ledger.url.set(drivername="postgresql").render_as_string(hide_password=False)
    environment = {"GPU_TYPE": "RTX_3090", "DATABASE_URL": url}
    environment |= {"PATH": os.environ["PATH"], "VFLEET_SUITE": "vad"}
    assert find_box_problem(environment, find_gpus=lambda: GPU) is None
    assert open_engine(url).pool.checkedin() == 0, "the entrypoint keeps a connection for the lifetime of the box"
    broken = environment | {"VFLEET_SUITE": "nope"}
    assert "the models cannot work here: no suite is called 'nope'" in find_box_problem(broken, find_gpus=lambda: GPU)
    assert find_box_problem(environment, find_gpus=lambda: "NVIDIA GTX 1060") == (
        "no RTX 3090 is visible: the driver shows NVIDIA GTX 1060"
    )
    assert "driver shows nothing" in find_box_problem(environment, find_gpus=lambda: None)
    assert "DATABASE_URL is not set" in find_box_problem({})
    open_engine(url).dispose()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("import os; os.kill(os.getpid(), 11)", "no message (exit -11)"),
        ("raise RuntimeError('CUDA error: no kernel image')", "RuntimeError: CUDA error: no kernel image (exit 1)"),
    ],
)
def test_crash_of_the_self_test_is_a_reason(script, sentence):
    """A driver that crashes the self-test process does not crash the bootstrap."""
    assert sentence in find_model_problem({}, [sys.executable, "-c", script])


def test_unexpected_error_at_the_start_destroys_the_instance(monkeypatch):
    """After a traceback the instance would go on billing, so it is destroyed."""
    destroyed = []

    def fail(_):
        raise FileNotFoundError("prefect")

    monkeypatch.setattr(bootstrap, "find_box_problem", fail)
    monkeypatch.setattr(bootstrap, "destroy_self", lambda rental, clock: destroyed.append(rental.instance_id))
    monkeypatch.setenv("CONTAINER_ID", "31000007")
    assert bootstrap.main() == 1
    assert destroyed == ["31000007"]


class HalfFailingSuite:
    """A suite of two models, of which one fails on everything."""

    def __init__(self):
        self.columns = ("whisper", "mms")

    def score_batch(self, _batch):
        return [{"whisper": Scored({}), "mms": Unscored(Fault("model_failed", "CUDA out of memory"))}] * 2


def test_self_test_names_the_failing_model():
    """The error names the model and its fault."""
    with pytest.raises(
        SelfTestFailed, match=r"model mms fails on this machine in the self-test: .* CUDA out of memory"
    ):
        run_self_test(HalfFailingSuite())


def test_probe_is_audible_and_always_the_same():
    """The noise of the self-test is neither silent nor clipped, and equal at each call."""
    probe = make_noise(2.0)
    assert 0.01 < float(np.abs(probe).max()) < 0.9
    assert np.array_equal(probe, make_noise(2.0))


def test_variables_of_the_operators_plan_are_settings(monkeypatch):
    """The variables that the operator named for a box are settings; an invalid value is refused by name."""
    environment = {
        "DATABASE_URL": "postgresql://box@h/d", "R2_ENDPOINT_URL": "https://r2", "WORKER_ID": "val-7",
        "GPU_TYPE": "RTX_3090", "CONFORMER_BATCH_SIZE": "32", "PARQUET_SHARD_SIZE": "50",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "postgresql://box@h/d"
    assert (settings.s3_endpoint_url, settings.worker_id, settings.gpu_type) == ("https://r2", "val-7", "RTX_3090")
    assert (settings.conformer_batch_size, settings.chunk_videos) == (32, 50)
    for name in ("CONFORMER_BATCH_SIZE", "PARQUET_SHARD_SIZE"):
        monkeypatch.setenv(name, "many")
        with pytest.raises(BadInput, match=r"is 'many'"):
            load_settings()
        monkeypatch.setenv(name, "8")


def test_create_request_has_the_variables_of_the_operators_plan():
    """DATABASE_URL, R2_ENDPOINT_URL, WORKER_ID=val-N, GPU_TYPE, CONFORMER_BATCH_SIZE and PARQUET_SHARD_SIZE=50."""
    environment = read_box_environment(BOX_VARIABLES | {"BOX_CONFORMER_BATCH_SIZE": "16"})
    body = build_create_request(
        LaunchSpec("image", OfferFilter()), make_offer(1), label="l", worker_id="val-7", environment=environment
    )
    assert body["env"] == DEFAULTS | {
        "DATABASE_URL": "postgresql://box@h/d", "R2_ENDPOINT_URL": "https://r2", "PREFECT_API_URL": "https://p",
        "CONFORMER_BATCH_SIZE": "16", "PARQUET_SHARD_SIZE": "50", "WORKER_ID": "val-7", "GPU_TYPE": "RTX_3090",
    }  # fmt: skip
    assert body["disk"] == 50
    assert body["cancel_unavail"] is True


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"BOX_R2_ENDPOINT_URL": ""}, "BOX_R2_ENDPOINT_URL is not set"),
        ({"BOX_VAST_API_KEY": "k"}, "BOX_VAST_API_KEY"),
        ({"DATABASE_URL": "postgresql://box@h/d"}, "the control machine's own login"),
    ],
)
def test_box_environment_holds_no_control_plane_secret(environment, sentence):
    """The owner of a rented machine can read everything on it, so these variables are refused."""
    with pytest.raises(BadInput, match=sentence):
        read_box_environment(BOX_VARIABLES | environment)


def test_too_large_environment_is_refused():
    """The vendor accepts 32 KB; the error names the limit."""
    with pytest.raises(BadInput, match=r"Vast\.ai accepts 32768"):
        build_create_request(
            LaunchSpec("i"), make_offer(1), label="l", worker_id="w", environment={"HF_TOKEN": "x" * 40_000}
        )

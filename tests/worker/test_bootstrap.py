"""A box without use destroys its own instance, also without a control machine."""

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
from validation.worker import bootstrap as box
from validation.worker.bootstrap import (
    MAX_RESTARTS,
    RESTART_S,
    IdlePolicy,
    InstanceInfo,
    destroy_self,
    find_box_problem,
    find_model_problem,
    has_flows,
    run_worker,
)
from validation.worker.prefect.job import VastGpuJobConfiguration

RENTAL = InstanceInfo("1", "key", "http://fake", lifetime_s=10_000, idle_s=600)
TOLD = {
    "BOX_DATABASE_URL": "postgresql://box@h/d",
    "BOX_R2_ENDPOINT_URL": "https://r2",
    "BOX_PREFECT_API_URL": "https://p",
}


def rent_one(fake) -> InstanceInfo:
    offer = next(number for number, offer in fake.cloud.offers.items() if offer["rentable"])
    contract = fake.cloud.create(offer, ORDER)
    return replace(RENTAL, instance_id=str(contract.id), key=contract.key)


def test_a_box_destroys_itself_with_a_key_of_its_own(fake):
    """The key opens this one instance and no other."""
    first, second = rent_one(fake), rent_one(fake)
    assert destroy_self(first, clock=VirtualClock(fake), transport=FakeTransport(fake))
    assert [str(contract.id) for contract in fake.cloud.living()] == [second.instance_id]
    thief = replace(second, key=first.key)
    assert not destroy_self(thief, clock=VirtualClock(fake), transport=FakeTransport(fake))
    assert [str(contract.id) for contract in fake.cloud.living()] == [second.instance_id]


def test_a_box_insists(fake):
    """A vendor that is away for some minutes is asked again."""
    rental = rent_one(fake)
    fake.connection.play_next("destroy", "html_502", "reject_then_502", "refuse_politely")
    fake.connection.play_next("destroy", "none")
    assert destroy_self(rental, clock=VirtualClock(fake), transport=FakeTransport(fake))
    assert fake.cloud.living() == []


def test_a_machine_that_is_not_rented_is_left_alone(fake):
    """The same program runs in a container at home."""
    assert not destroy_self(replace(RENTAL, instance_id=None), clock=VirtualClock(fake))


def test_work_keeps_a_box_and_idleness_ends_it():
    """A box that worked a moment ago stays; ten idle minutes later it goes."""
    policy = IdlePolicy(RENTAL, started_at=0)
    assert policy.decision(590, busy=True) is None
    assert policy.decision(1100, busy=False) is None
    assert policy.decision(1200, busy=False) == "idle for 600 s"


def test_a_box_has_its_time():
    """However busy: a forgotten box ends too."""
    assert IdlePolicy(RENTAL, started_at=0).decision(10_001, busy=True) == "past its lifetime of 10000 s"


def test_a_worker_that_keeps_ending_ends_the_box():
    """Ten restarts within an hour are borne; ends of long ago are forgiven."""
    policy = IdlePolicy(RENTAL, started_at=0)
    for end in range(MAX_RESTARTS + 1):
        policy.on_exit(end * 1000.0)
    assert policy.decision(1, busy=True) is None
    for _ in range(MAX_RESTARTS):
        policy.on_exit(10_000.0)
    assert "within an hour" in policy.decision(10_000, busy=True)


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
    """Virtual time that waits for the worker: its first life to end, its second to begin."""

    def __init__(self, fake, log) -> None:
        self.time, self.log, self.restarted = VirtualClock(fake), log, False

    def monotonic(self) -> float:
        return self.time.monotonic()

    def lives(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def sleep(self, seconds) -> None:
        self.time.sleep(seconds)
        if seconds == RESTART_S:
            self.restarted = True
        elif self.restarted:
            assert poll_until(lambda: len(self.lives()) > 1, within_s=30)
        else:
            assert poll_until(lambda: self.lives() != [] and not self.first_lives(), within_s=30)

    def first_lives(self) -> bool:
        try:
            return is_alive(psutil.Process(int(self.lives()[0])))
        except psutil.NoSuchProcess:
            return False


def test_the_worker_is_restarted_and_drained_at_the_end(fake, tmp_path):
    """A real process each time: the first ends by itself, the second is asked to."""
    clock = WorkerClock(fake, tmp_path / "log")
    command = [sys.executable, "-c", SCRIPT, str(clock.log)]
    assert run_worker(command, IdlePolicy(RENTAL, fake.cloud.now), clock=clock, busy=lambda: False) == "idle for 600 s"
    first, second, farewell = clock.lives()
    assert first != second
    assert farewell == "drained"


ENTRYPOINT = """
import sys
from validation.worker import bootstrap as box
from validation.vast.rate_limit import InterruptibleClock
box.POLL_S = box.RESTART_S = 3600.0
rental = box.InstanceInfo(None, "", "", lifetime_s=1e9, idle_s=1e9)
with InterruptibleClock() as clock:
    policy = box.IdlePolicy(rental, clock.monotonic())
    print(box.run_worker(sys.argv[1:], policy, clock=clock, busy=lambda: False))
"""


def test_a_stop_reaches_the_worker_at_once(tmp_path):
    """A real SIGTERM, in the middle of a look that lasts an hour: a container's stop leaves ten seconds in all, and the
    worker needs them to drain."""
    log = tmp_path / "log"
    log.touch()  # as in a second life, the worker stays
    command = [sys.executable, "-c", ENTRYPOINT, sys.executable, "-c", SCRIPT, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as entrypoint:
        assert poll_until(lambda: log.read_text().endswith(" "), within_s=30)
        entrypoint.terminate()
        told, _ = entrypoint.communicate(timeout=30)
    assert told == "stopped by a signal\n"
    assert log.read_text().endswith(" drained")


def test_a_stop_between_two_lives_starts_no_third(fake, tmp_path):
    """A worker that is started only to be drained would register in vain."""
    log = tmp_path / "log"

    class Stopping(WorkerClock):
        def sleep(self, seconds) -> None:
            super().sleep(seconds)
            if seconds == RESTART_S:
                os.kill(os.getpid(), signal.SIGTERM)

    command = [sys.executable, "-c", SCRIPT, str(log)]
    told = run_worker(command, IdlePolicy(RENTAL, fake.cloud.now), clock=Stopping(fake, log), busy=lambda: False)
    assert told == "stopped by a signal"
    assert len(log.read_text().split()) == 1


def test_a_signal_before_the_sleep_ends_it_too():
    """No signal is lost between the check for a stop and the sleep."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    with InterruptibleClock() as clock:
        os.kill(os.getpid(), signal.SIGUSR1)
        clock.sleep(3600.0)
    signal.signal(signal.SIGUSR1, before)


def test_a_flow_process_counts_as_work_and_an_inference_server_does_not(tmp_path):
    """As the worker starts them; nothing else counts as work."""
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


CARD = "NVIDIA GeForce RTX 3090, 580.65.06"


@pytest.mark.parametrize(
    ("driver", "fault"),
    [
        ("580.65.06", None),
        ("590.44.01", None),
        ("535.183.01", "driver 535.183.01 supports CUDA 12 at most, and this image was built for CUDA 13"),
        ("580.05", "driver 580.05 supports CUDA 12 at most"),
    ],
)  # fmt: skip
def test_a_driver_too_old_for_the_image_is_named_before_the_worker_starts(monkeypatch, tmp_path, driver, fault):
    """From what the driver's own program prints; no ledger is asked, no model loaded and nothing claimed."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.format(driver=driver))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(box, "built_for_cuda", lambda: 13)
    found = find_box_problem({"GPU_TYPE": "RTX_3090"})
    assert ("DATABASE_URL" in found) if fault is None else found.startswith(fault)


SMI = """#!/bin/sh
test "$*" = "--query-gpu=name,driver_version --format=csv,noheader" || exit 2
echo 'NVIDIA GeForce RTX 3090, {driver}'
"""


def test_a_box_that_cannot_work_says_why(ledger, tmp_path):
    """Another card than ordered, a ledger that it does not know, models that do not load: it does not join."""
    url = ledger.url.set(drivername="postgresql").render_as_string(hide_password=False)
    told = {"GPU_TYPE": "RTX_3090", "DATABASE_URL": url}
    told |= {"PATH": os.environ["PATH"], "VFLEET_SUITE": "vad"}
    assert find_box_problem(told, find_gpus=lambda: CARD) is None
    assert open_engine(url).pool.checkedin() == 0, "the entrypoint keeps a connection for the box's life"
    broken = told | {"VFLEET_SUITE": "nope"}
    assert "the models cannot work here: no suite is called 'nope'" in find_box_problem(broken, find_gpus=lambda: CARD)
    assert find_box_problem(told, find_gpus=lambda: "NVIDIA GTX 1060") == (
        "no RTX 3090 is visible: the driver shows NVIDIA GTX 1060"
    )
    assert "driver shows nothing" in find_box_problem(told, find_gpus=lambda: None)
    assert "DATABASE_URL is not set" in find_box_problem({})
    open_engine(url).dispose()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("import os; os.kill(os.getpid(), 11)", "no message (exit -11)"),
        ("raise RuntimeError('CUDA error: no kernel image')", "RuntimeError: CUDA error: no kernel image (exit 1)"),
    ],
)
def test_a_box_outlives_its_self_test(script, sentence):
    """A driver that crashes the process that loads the models is a reason, and not the end of the box's start."""
    assert sentence in find_model_problem({}, [sys.executable, "-c", script])


def test_a_box_whose_start_fails_as_nobody_foresaw_gives_itself_back(monkeypatch):
    """A box that ends with a traceback and goes on billing would be the vendor's gain alone."""
    given_back = []

    def fail(_):
        raise FileNotFoundError("prefect")

    monkeypatch.setattr(box, "find_box_problem", fail)
    monkeypatch.setattr(box, "destroy_self", lambda rental, clock: given_back.append(rental.instance_id))
    monkeypatch.setenv("CONTAINER_ID", "31000007")
    assert box.main() == 1
    assert given_back == ["31000007"]


class HalfDeafSuite:
    """A suite of two models, of which one answers nothing."""

    def __init__(self):
        self.columns = ("whisper", "mms")

    def score_batch(self, _batch):
        return [{"whisper": Scored({}), "mms": Unscored(Fault("model_failed", "CUDA out of memory"))}] * 2


def test_a_model_that_answers_nothing_fails_the_self_test():
    """The error names the model and its fault."""
    with pytest.raises(
        SelfTestFailed, match=r"model mms fails on this machine in the self-test: .* CUDA out of memory"
    ):
        run_self_test(HalfDeafSuite())


def test_the_probe_is_audible_and_always_the_same():
    """Neither silence nor clipped."""
    probe = make_noise(2.0)
    assert 0.01 < float(np.abs(probe).max()) < 0.9
    assert np.array_equal(probe, make_noise(2.0))


def test_every_name_of_the_users_plan_is_a_setting(monkeypatch):
    """As a box is told them; a value that makes no sense is refused by its name."""
    told = {
        "DATABASE_URL": "postgresql://box@h/d", "R2_ENDPOINT_URL": "https://r2", "WORKER_ID": "val-7",
        "GPU_TYPE": "RTX_3090", "CONFORMER_BATCH_SIZE": "32", "PARQUET_SHARD_SIZE": "50",
    }  # fmt: skip
    for name, value in told.items():
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


def test_a_box_is_told_what_the_users_plan_names():
    """DATABASE_URL, R2_ENDPOINT_URL, WORKER_ID=val-N, GPU_TYPE, CONFORMER_BATCH_SIZE and PARQUET_SHARD_SIZE=50."""
    environment = read_box_environment(TOLD | {"BOX_CONFORMER_BATCH_SIZE": "16"})
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
    ("told", "sentence"),
    [
        ({"BOX_R2_ENDPOINT_URL": ""}, "BOX_R2_ENDPOINT_URL is not set"),
        ({"BOX_VAST_API_KEY": "k"}, "BOX_VAST_API_KEY"),
        ({"DATABASE_URL": "postgresql://box@h/d"}, "the control machine's own login"),
    ],
)
def test_a_box_is_told_nothing_that_it_must_not_know(told, sentence):
    """The owner of a rented machine can read all that is on it."""
    with pytest.raises(BadInput, match=sentence):
        read_box_environment(TOLD | told)


def test_an_environment_that_is_too_large_is_refused():
    with pytest.raises(BadInput, match=r"Vast\.ai accepts 32768"):
        build_create_request(
            LaunchSpec("i"), make_offer(1), label="l", worker_id="w", environment={"HF_TOKEN": "x" * 40_000}
        )

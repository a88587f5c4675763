"""The first program of a rented box: test the box, run its worker, and destroy the instance when it is of no more use.

This is the last limit on cost, which works without the control machine: a box that is past its lifetime, idle or broken
destroys its own instance, with a vendor key that is valid for this instance only.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import not_
from pathlib import Path
from types import FrameType
from typing import Self

import httpx
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_fixed

from validation.domain import MIN_DISK_BYTES, Seconds
from validation.errors import FleetError
from validation.exit_codes import ExitCode
from validation.hardware.gpu import DriverTooOld, built_for_cuda, supports_cuda
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.output import configure_logging
from validation.vast.rate_limit import Clock, InterruptibleClock, WallClock

log = logging.getLogger("vfleet.box")

WORKER = (
    *(sys.executable, "-m", "prefect", "worker", "start", "--pool", "vast-gpu", "--type", "vast-gpu", "--limit", "2"),
    "--with-healthcheck",  # on PREFECT_WORKER_WEBSERVER_HOST and _PORT: the image's healthcheck asks there
)
FLOW_MARK = b"\0prefect.engine\0"
"""Part of the command line of every flow process, and of no other process of a box: the module that it runs."""

POLL_S: Seconds = 15.0
RESTART_S: Seconds = 10.0
MAX_RESTARTS = 10
"""Exits of the worker within an hour after which the box is destroyed."""
DRAIN_TIMEOUT_S: Seconds = 180.0
"""How long the worker may drain; its own grace is two minutes."""
DESTROY_TRIES = 30
DESTROY_PAUSE_S: Seconds = 60.0
SELF_TEST = (sys.executable, "-m", "validation.models.self_test")
SELF_TEST_TIMEOUT_S: Seconds = 180.0
"""Weights load within two minutes. The fleet replaces a box without a heartbeat six minutes after its start anyway."""


STOPPED = "stopped by a signal"
"""The reason of an end that was asked for."""


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """The instance that this box is, and its limits. ``instance_id`` is None on a machine that is not rented."""

    instance_id: str | None
    key: str
    url: str
    lifetime_s: Seconds
    idle_s: Seconds

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables that the vendor and the launch spec set."""
        return cls(
            instance_id=environment.get("CONTAINER_ID"),
            key=environment.get("CONTAINER_API_KEY", ""),
            url=environment.get("VAST_URL", "https://console.vast.ai"),
            lifetime_s=float(environment.get("VFLEET_BOX_LIFETIME_S", 7 * 24 * 3600)),
            idle_s=float(environment.get("VFLEET_BOX_IDLE_S", 1800)),
        )


class IdlePolicy:
    """Decides when a box is of no more use. All times are of one monotonic clock, in seconds."""

    def __init__(self, instance: InstanceInfo, started_at: Seconds) -> None:
        self._instance, self._started_at, self._busy_at = instance, started_at, started_at
        self._exits: list[Seconds] = []

    def on_exit(self, now: Seconds) -> None:
        """Count an exit of the worker."""
        self._exits = [*(exited_at for exited_at in self._exits if now - exited_at < 3600), now]  # noqa: PLR2004 - an hour

    def decision(self, now: Seconds, *, busy: bool) -> str | None:
        """The reason to destroy the box now; None while it may stay."""
        if busy:
            self._busy_at = now
        if now - self._started_at > self._instance.lifetime_s:
            return f"past its lifetime of {self._instance.lifetime_s:.0f} s"
        if now - self._busy_at > self._instance.idle_s:
            return f"idle for {self._instance.idle_s:.0f} s"
        if len(self._exits) > MAX_RESTARTS:
            return f"its worker exited {len(self._exits)} times within an hour"
        return None


def find_box_problem(
    environment: Mapping[str, str], *, find_gpus: Callable[[], str | None] | None = None
) -> str | None:
    """The reason why this box cannot work; None if it can.

    Checks, the cheapest first: the GPU that was ordered, a driver for the CUDA of this image, free disk, a ledger at
    the migration of this code, and models that load and answer.

    Args:
        environment: the environment of the box.
        find_gpus: returns the same as ``list_gpus``.
    """
    wanted = environment.get("GPU_TYPE", "").replace("_", " ")
    if wanted and (problem := find_gpu_problem(wanted, (find_gpus or list_gpus)())):
        return problem
    if (free := shutil.disk_usage("/").free) < MIN_DISK_BYTES:
        return f"only {free >> 20} MiB of disk are free"
    try:
        check_ledger(environment.get("DATABASE_URL", ""))
    except FleetError as error:
        return str(error)
    return find_model_problem(environment)


def check_ledger(database_url: str) -> None:
    """Check the ledger's migration, and keep no connection open: this program needs none while the worker runs.

    Raises:
        SchemaMismatch: the ledger is at another migration.
        FleetError: as ``open_engine`` and its first use.
    """
    engine = open_engine(database_url)
    try:
        require_revision(engine)
    finally:
        engine.dispose()


def find_gpu_problem(wanted: str, found: str | None) -> str | None:
    """The problem of a box's GPUs, given the output of ``list_gpus``; None if there is none."""
    if found is None or wanted not in found:
        return f"no {wanted} is visible: the driver shows {found or 'nothing'}"
    needs, driver = built_for_cuda(), found.splitlines()[0].rpartition(",")[2].strip()
    return str(DriverTooOld(driver, needs)) if needs and not supports_cuda(driver, needs) else None


def find_model_problem(environment: Mapping[str, str], command: Sequence[str] = SELF_TEST) -> str | None:
    """Run the self-test in its own process, which may crash. The reason of a failure; None if all models answer."""
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=SELF_TEST_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the models have not answered within {SELF_TEST_TIMEOUT_S:.0f} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or ["no message"]
    return f"the models cannot work here: {lines[-1][:200]} (exit {done.returncode})"


def list_gpus() -> str | None:
    """One line per GPU: its name and driver, as ``NVIDIA GeForce RTX 3090, 580.65.06``. None without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def has_flows(proc: Path = Path("/proc")) -> bool:
    """Whether a flow process runs. The box is one container, so every process in it belongs to this worker."""
    for entry in proc.glob("[0-9]*/cmdline"):
        try:
            if FLOW_MARK in entry.read_bytes():
                return True
        except OSError:  # the process ended meanwhile
            continue
    return False


def run_worker(command: Sequence[str], policy: IdlePolicy, *, clock: Clock, busy: Callable[[], bool]) -> str:
    """Keep a worker running until the policy decides otherwise or a signal arrives; drain it. Returns the reason.

    With a clock whose sleep ends at a signal, the drain begins at once.
    """
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    worker = subprocess.Popen(command)
    try:
        while not received:
            clock.sleep(POLL_S)
            reason = policy.decision(clock.monotonic(), busy=busy())
            if reason:
                return reason
            if worker.poll() is not None and not received:
                policy.on_exit(clock.monotonic())
                clock.sleep(RESTART_S)
                if not received:
                    worker = subprocess.Popen(command)
        return STOPPED
    finally:
        _drain(worker)
        for number, handler in before.items():
            signal.signal(number, handler)


def _drain(worker: subprocess.Popen[bytes]) -> None:
    worker.terminate()
    try:
        worker.wait(DRAIN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def destroy_self(instance: InstanceInfo, *, clock: Clock, transport: httpx.BaseTransport | None = None) -> bool:
    """Ask the vendor to destroy this instance, for up to half an hour; returns whether it agreed."""
    if instance.instance_id is None:
        return False
    address = f"{instance.url}/api/v0/instances/{instance.instance_id}/"
    with httpx.Client(transport=transport, timeout=30, headers={"Authorization": f"Bearer {instance.key}"}) as http:
        retrying = Retrying(
            stop=stop_after_attempt(DESTROY_TRIES),
            wait=wait_fixed(DESTROY_PAUSE_S),
            sleep=clock.sleep,
            retry=retry_if_result(not_),
            retry_error_callback=lambda _: False,
        )
        return bool(retrying(_request_destroy, http, address))


def _request_destroy(http: httpx.Client, address: str) -> bool:
    try:
        answer = http.request("DELETE", address, json={})
        if answer.is_success and answer.json().get("success"):
            return True
        log.warning("the vendor has not destroyed this instance: status %d", answer.status_code)
    except (httpx.TransportError, ValueError) as error:
        log.warning("the vendor does not answer: %r", error)
    return False


def main() -> int:
    """Test the box, run the worker, destroy the instance. A stop by a signal (by the vendor) does not destroy it."""
    configure_logging("%(asctime)s %(message)s")
    instance = InstanceInfo.read(os.environ)
    try:
        reason = find_box_problem(os.environ)
        if reason is None:
            with InterruptibleClock() as clock:
                reason = run_worker(WORKER, IdlePolicy(instance, clock.monotonic()), clock=clock, busy=has_flows)
    except Exception as error:  # a box that does not work must not go on billing, whatever the error is
        log.exception("this box cannot go on")
        reason = repr(error)
    log.info("this box ends: %s", reason)
    if reason == STOPPED:
        return ExitCode.OK
    destroy_self(instance, clock=WallClock())
    return ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())

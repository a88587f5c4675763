"""Test a rented box, run its worker, and destroy the instance when the box is past its lifetime, idle or broken.

This program is the first of a rented box. It is also the last limit on cost: it works without the control machine. It
destroys the instance with a vendor key that is valid for this instance only.
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
from validation.hardware.gpu import DriverTooOld, find_built_cuda_major, supports_cuda
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_newest_migration
from validation.output import configure_logging
from validation.vast.rate_limit import Clock, InterruptibleClock, WallClock

log = logging.getLogger("vfleet.box")

WORKER = (
    *(sys.executable, "-m", "prefect", "worker", "start", "--pool", "vast-gpu", "--type", "vast-gpu", "--limit", "2"),
    "--with-healthcheck",  # the image's healthcheck asks PREFECT_WORKER_WEBSERVER_HOST and _PORT
)
FLOW_MARK = b"\0prefect.engine\0"
"""Bytes that only flow processes of a box have in `/proc/PID/cmdline`: the name of the module that they run."""

POLL_S: Seconds = 15.0
RESTART_S: Seconds = 10.0
MAX_RESTARTS = 10
"""The box is destroyed when its worker exits more often than this within an hour."""
DRAIN_TIMEOUT_S: Seconds = 180.0
"""Time limit for the drain of the worker, after which it is killed. The worker's own grace (VFLEET_DRAIN_GRACE_S) is
two minutes by default."""
DESTROY_TRIES = 30
DESTROY_PAUSE_S: Seconds = 60.0
SELF_TEST = (sys.executable, "-m", "validation.models.self_test")
SELF_TEST_TIMEOUT_S: Seconds = 180.0
"""Time limit of the self-test. Weights load within two minutes. The fleet replaces a box that sends no heartbeat within
six minutes of its start."""


STOPPED = "stopped by a signal"
"""The reason that ``run_worker`` returns after SIGTERM or SIGINT."""


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """The vendor's instance of this box, and the limits of its life and idle time."""

    instance_id: str | None
    """None on a machine that is not rented."""
    key: str
    """The vendor key that is valid for this instance only."""
    url: str
    """The address of the vendor."""
    lifetime_s: Seconds
    idle_s: Seconds

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the instance from the environment variables that the vendor and the launch spec set."""
        return cls(
            instance_id=environment.get("CONTAINER_ID"),
            key=environment.get("CONTAINER_API_KEY", ""),
            url=environment.get("VAST_URL", "https://console.vast.ai"),
            lifetime_s=float(environment.get("VFLEET_BOX_LIFETIME_S", 7 * 24 * 3600)),
            idle_s=float(environment.get("VFLEET_BOX_IDLE_S", 1800)),
        )


class BoxEndPolicy:
    """A rule for when a box must be destroyed: past its lifetime, idle, or with a worker that exits too often.

    A box is idle if no flow has run for ``idle_s``, counted from the start of the box at the earliest.
    All times are of one monotonic clock, in seconds.
    """

    def __init__(self, instance: InstanceInfo, started_at: Seconds) -> None:
        self._instance, self._started_at, self._busy_at = instance, started_at, started_at
        self._exits: list[Seconds] = []

    def on_exit(self, now: Seconds) -> None:
        """Count an exit of the worker."""
        self._exits = [*(exited_at for exited_at in self._exits if now - exited_at < 3600), now]  # noqa: PLR2004 - an hour

    def find_reason_to_end(self, now: Seconds, *, busy: bool) -> str | None:
        """Return the reason to destroy the box now; None if the box may stay. ``busy`` tells whether a flow runs."""
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
    """Return the reason why this box cannot work; None if it can.

    The cheapest checks come first: the ordered GPU is visible and its driver supports the CUDA version of this image
    (both only if GPU_TYPE is set), enough disk is free, the ledger is at the migration of this code, and the models
    pass the self-test.

    Args:
        environment: the environment of the box.
        find_gpus: a function to call in place of ``query_nvidia_smi``.
    """
    wanted = environment.get("GPU_TYPE", "").replace("_", " ")
    if wanted and (problem := find_gpu_problem(wanted, (find_gpus or query_nvidia_smi)())):
        return problem
    if (free := shutil.disk_usage("/").free) < MIN_DISK_BYTES:
        return f"only {free >> 20} MiB of disk are free"
    try:
        check_ledger(environment.get("DATABASE_URL", ""))
    except FleetError as error:
        return str(error)
    return find_model_problem(environment)


def check_ledger(database_url: str) -> None:
    """Check that the ledger is at the migration of this code.

    The connection is closed afterwards, because this program needs none while the worker runs.

    Raises:
        SchemaMismatch: the ledger is at another migration.
        FleetError: the ledger cannot be reached, or DATABASE_URL is wrong.
    """
    engine = open_engine(database_url)
    try:
        require_newest_migration(engine)
    finally:
        engine.dispose()


def find_gpu_problem(wanted: str, found: str | None) -> str | None:
    """Return the problem of a box's GPUs; None without a problem.

    Args:
        wanted: the name of the ordered GPU, which a visible GPU must have.
        found: the output of ``query_nvidia_smi``. The driver of the first GPU in it is checked.
    """
    if found is None or wanted not in found:
        return f"no {wanted} is visible: the driver shows {found or 'nothing'}"
    needs, driver = find_built_cuda_major(), found.splitlines()[0].rpartition(",")[2].strip()
    return str(DriverTooOld(driver, needs)) if needs and not supports_cuda(driver, needs) else None


def find_model_problem(environment: Mapping[str, str], command: Sequence[str] = SELF_TEST) -> str | None:
    """Run the self-test of the models; return the reason of its failure, None if it passes.

    The self-test runs in its own process, because it may crash.
    """
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


def query_nvidia_smi() -> str | None:
    """Return the output of `nvidia-smi`; None if the program is missing or fails.

    The output has one line per GPU with its name and driver version, such as ``NVIDIA GeForce RTX 3090, 580.65.06``.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def has_flows(proc: Path = Path("/proc")) -> bool:
    """Return whether a flow process runs.

    The box is one container, so every process in it belongs to this worker.
    """
    for entry in proc.glob("[0-9]*/cmdline"):
        try:
            if FLOW_MARK in entry.read_bytes():
                return True
        except OSError:  # the process ended meanwhile
            continue
    return False


def run_worker(command: Sequence[str], policy: BoxEndPolicy, *, clock: Clock, busy: Callable[[], bool]) -> str:
    """Run a worker until the policy ends the box or a signal arrives; drain the worker and return the reason.

    A worker that exits is started again after ``RESTART_S``. If a signal ends the clock's sleep, the drain begins at
    once.

    Args:
        command: the command that starts a worker.
        policy: the rule that ends the box.
        clock: the clock of the policy.
        busy: a function that returns whether a flow runs.
    """
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    worker = subprocess.Popen(command)
    try:
        while not received:
            clock.sleep(POLL_S)
            reason = policy.find_reason_to_end(clock.monotonic(), busy=busy())
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
    """Ask a worker to drain, and kill it if it has not exited after ``DRAIN_TIMEOUT_S``."""
    worker.terminate()
    try:
        worker.wait(DRAIN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        worker.kill()
        worker.wait()


def destroy_self(instance: InstanceInfo, *, clock: Clock, transport: httpx.BaseTransport | None = None) -> bool:
    """Ask the vendor to destroy this instance until it confirms; return whether the vendor confirmed.

    The vendor is asked at most ``DESTROY_TRIES`` times, with pauses of ``DESTROY_PAUSE_S``. On a machine that is not
    rented, return False at once.
    """
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
    """Ask the vendor once to destroy the instance; return whether the vendor confirmed."""
    try:
        answer = http.request("DELETE", address, json={})
        if answer.is_success and answer.json().get("success"):
            return True
        log.warning("the vendor has not destroyed this instance: status %d", answer.status_code)
    except (httpx.TransportError, ValueError) as error:
        log.warning("the vendor does not answer: %r", error)
    return False


def main() -> int:
    """Test the box, run the worker, destroy the instance; return an exit code.

    After SIGTERM or SIGINT, as when the vendor stops the box, the instance is not destroyed.
    """
    configure_logging("%(asctime)s %(message)s")
    instance = InstanceInfo.read(os.environ)
    try:
        reason = find_box_problem(os.environ)
        if reason is None:
            with InterruptibleClock() as clock:
                reason = run_worker(WORKER, BoxEndPolicy(instance, clock.monotonic()), clock=clock, busy=has_flows)
    except Exception as error:  # after any error the box must end, because the vendor bills it until then
        log.exception("this box cannot go on")
        reason = repr(error)
    log.info("this box ends: %s", reason)
    if reason == STOPPED:
        return ExitCode.OK
    destroy_self(instance, clock=WallClock())
    return ExitCode.FAILED


if __name__ == "__main__":
    sys.exit(main())

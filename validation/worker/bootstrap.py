"""The first program of a rented box: test it, start its worker, and end the rental when there is no more use for it.

It holds the last cap on cost, the one that works when nobody controls the fleet any more: a box that is past its time,
idle, or broken destroys itself, with a key of the vendor's that opens this one instance.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Self

import httpx

from validation.domain import Seconds
from validation.errors import FleetError
from validation.hardware.gpu import DriverTooOld, built_for_cuda, supports_cuda
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.vast.rate_limit import Clock, InterruptibleClock, WallClock

log = logging.getLogger("vfleet.box")

WORKER = (
    *(sys.executable, "-m", "prefect", "worker", "start", "--pool", "vast-gpu", "--type", "vast-gpu", "--limit", "2"),
    "--with-healthcheck",  # on PREFECT_WORKER_WEBSERVER_HOST and _PORT: the image's healthcheck asks there
)
FLOW_MARK = b"validation.child_process"
"""Stands in the command line of every flow process that the worker starts."""

LOOK_S: Seconds = 15.0
RESTART_S: Seconds = 10.0
MAX_RESTARTS = 10
"""Ends of the worker within an hour after which the box is no good."""
DRAIN_TIMEOUT_S: Seconds = 180.0
"""How long the worker may drain: its own grace is two minutes."""
DESTROY_TRIES = 30
DESTROY_PAUSE_S: Seconds = 60.0
MIN_DISK_BYTES = 5 << 30
SELF_TEST = (sys.executable, "-m", "validation.worker.self_test")
SELF_TEST_S: Seconds = 180.0
"""Weights load within two minutes. A box that is not heard of within six of its start is replaced anyway."""


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """What a box knows of its own rental. ``instance_id`` is None where it is not rented at all."""

    instance_id: str | None
    key: str
    url: str
    lifetime_s: Seconds
    idle_s: Seconds

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Read the variables that the vendor and the order put there."""
        return cls(
            instance_id=environment.get("CONTAINER_ID"),
            key=environment.get("CONTAINER_API_KEY", ""),
            url=environment.get("VAST_URL", "https://console.vast.ai"),
            lifetime_s=float(environment.get("VFLEET_BOX_LIFETIME_S", 7 * 24 * 3600)),
            idle_s=float(environment.get("VFLEET_BOX_IDLE_S", 1800)),
        )


class Watch:
    """Decides when a box is of no more use. Times are one clock's, in seconds."""

    def __init__(self, rental: InstanceInfo, started: Seconds) -> None:
        self._rental, self._started, self._busy_at = rental, started, started
        self._ends: list[Seconds] = []

    def note_end(self, now: Seconds) -> None:
        """The worker has ended by itself."""
        self._ends = [*(end for end in self._ends if now - end < 3600), now]  # noqa: PLR2004 - an hour

    def verdict(self, now: Seconds, *, busy: bool) -> str | None:
        """Why the box should go now, None while it may stay."""
        if busy:
            self._busy_at = now
        if now - self._started > self._rental.lifetime_s:
            return f"past its time of {self._rental.lifetime_s:.0f} s"
        if now - self._busy_at > self._rental.idle_s:
            return f"idle for {self._rental.idle_s:.0f} s"
        if len(self._ends) > MAX_RESTARTS:
            return f"its worker ended {len(self._ends)} times within an hour"
        return None


def check_box(environment: Mapping[str, str], *, find_gpus: Callable[[], str | None] | None = None) -> str | None:
    """Say why this box cannot work, None if it can.

    It has the card that was ordered, a driver that runs this image's CUDA, room on the disk, a ledger that we know, and
    models that load and answer. What is cheap to ask is asked first.

    Args:
        environment: the box's.
        find_gpus: returns what ``list_gpus`` does.
    """
    wanted = environment.get("GPU_TYPE", "").replace("_", " ")
    if wanted and (fault := find_card_fault(wanted, (find_gpus or list_gpus)())):
        return fault
    if (free := shutil.disk_usage("/").free) < MIN_DISK_BYTES:
        return f"only {free >> 20} MiB of disk are free"
    try:
        check_ledger(environment.get("DATABASE_URL", ""))
    except FleetError as error:
        return str(error)
    return try_models(environment)


def check_ledger(database_url: str) -> None:
    """Ask the ledger once and hold no connection: this program needs none while its worker lives.

    Raises:
        SchemaMismatch: the ledger is of another migration.
        FleetError: as ``open_engine`` and its first use.
    """
    engine = open_engine(database_url)
    try:
        require_revision(engine)
    finally:
        engine.dispose()


def find_card_fault(wanted: str, found: str | None) -> str | None:
    """Say what is wrong with the cards of a box, as ``list_gpus`` returns them; None if nothing is."""
    if found is None or wanted not in found:
        return f"no {wanted} is visible: the driver shows {found or 'nothing'}"
    needs, driver = built_for_cuda(), found.splitlines()[0].rpartition(",")[2].strip()
    return str(DriverTooOld(driver, needs)) if needs and not supports_cuda(driver, needs) else None


def try_models(environment: Mapping[str, str], command: Sequence[str] = SELF_TEST) -> str | None:
    """Let every model answer once, in a process that may die of it. Why one did not, None if all did."""
    try:
        done = subprocess.run(
            command, env=dict(environment), capture_output=True, text=True, timeout=SELF_TEST_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the models have not answered within {SELF_TEST_S:.0f} s"
    if done.returncode == 0:
        return None
    told = done.stderr.strip().splitlines() or ["it said nothing"]
    return f"the models cannot work here: {told[-1][:200]} (exit {done.returncode})"


def list_gpus() -> str | None:
    """A line a card, with its name and the driver's version, as ``NVIDIA GeForce RTX 3090, 580.65.06``."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def has_flows(proc: Path = Path("/proc")) -> bool:
    """Whether a flow process runs. The box is one container: all processes in it are ours."""
    for entry in proc.glob("[0-9]*/cmdline"):
        try:
            if FLOW_MARK in entry.read_bytes():
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


def run_worker(command: Sequence[str], watch: Watch, *, clock: Clock, busy: Callable[[], bool]) -> str:
    """Keep a worker running until the watch says why to end, or somebody asks us to; drain it. Returns the reason.

    A clock whose sleep a signal ends lets the drain begin at once.
    """
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    worker = subprocess.Popen(command)
    try:
        while not asked:
            clock.sleep(LOOK_S)
            reason = watch.verdict(clock.monotonic(), busy=busy())
            if reason:
                return reason
            if worker.poll() is not None and not asked:
                watch.note_end(clock.monotonic())
                clock.sleep(RESTART_S)
                if not asked:
                    worker = subprocess.Popen(command)
        return "asked to end"
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


def destroy_self(rental: InstanceInfo, *, clock: Clock, transport: httpx.BaseTransport | None = None) -> bool:
    """Ask the vendor to end this rental, for half an hour if need be. Whether it agreed."""
    if rental.instance_id is None:
        return False
    address = f"{rental.url}/api/v0/instances/{rental.instance_id}/"
    with httpx.Client(transport=transport, timeout=30, headers={"Authorization": f"Bearer {rental.key}"}) as http:
        for _ in range(DESTROY_TRIES):
            try:
                answer = http.request("DELETE", address, json={})
                if answer.is_success and answer.json().get("success"):
                    return True
                log.warning("the vendor keeps this box: status %d", answer.status_code)
            except (httpx.TransportError, ValueError) as error:
                log.warning("the vendor does not answer: %r", error)
            clock.sleep(DESTROY_PAUSE_S)
    return False


def main() -> int:
    """Test, work, and go. An asked-for end (a stop by the vendor) is no reason to destroy the rental."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rental = InstanceInfo.read(os.environ)
    try:
        reason = check_box(os.environ)
        if reason is None:
            with InterruptibleClock() as clock:
                reason = run_worker(WORKER, Watch(rental, clock.monotonic()), clock=clock, busy=has_flows)
    except Exception as error:  # whatever it is, a box that does not work must not go on billing
        log.exception("this box cannot go on")
        reason = repr(error)
    log.info("this box ends: %s", reason)
    if reason == "asked to end":
        return 0
    destroy_self(rental, clock=WallClock())
    return 1


if __name__ == "__main__":
    sys.exit(main())

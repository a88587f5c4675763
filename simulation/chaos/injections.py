"""Inject each kind of fault into the fleet and its servers."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from uuid import UUID

import psutil

from simulation.chaos.box import Box, signal_all
from simulation.chaos.environment import ChaosEnvironment
from simulation.chaos.ledger import expire_leases, hold_worker
from simulation.chaos.network_faults import NONE, SEVERE
from simulation.chaos.schedule import FaultKind, PlannedFault
from validation.domain import Seconds
from validation.ledger.queries import OpenChunk, read_open_chunks

Undo = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that was injected, with its target."""

    fault: PlannedFault
    target: str
    undo: Undo
    """A function that ends the fault. It does nothing for faults from which the product recovers by itself."""
    chunks: tuple[UUID, ...]
    """The open chunks of the worker or flow process that was the target."""
    injected_at: Seconds
    """Time of the injection, as Unix time."""


def inject(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    """Inject a fault. Return None, without a change, if the fault has no target now.

    Raises:
        FleetError: the ledger does not answer, so no target can be found. Nothing was changed.
    """
    return _INJECTORS[fault.kind](environment, fault)


def _injection(
    fault: PlannedFault, target: str, undo: Undo = lambda: None, chunks: Sequence[OpenChunk] = ()
) -> Injection:
    return Injection(fault, target, undo, tuple(chunk.chunk_id for chunk in chunks), time.time())


def _resume(processes: Sequence[psutil.Process]) -> Undo:
    return lambda: signal_all(processes, SIGCONT)


# --- boxes and their flow runs --------------------------------------------------------------------------------


def _find_busy_box(environment: ChaosEnvironment, fault: PlannedFault) -> tuple[Box, list[OpenChunk]] | None:
    """Find a box that is up, not frozen, and has open chunks. The planned box is tried first, then the next ones."""
    open_chunks = read_open_chunks(environment.engine)
    for box in _from(fault.box, environment.boxes):
        held = [chunk for chunk in open_chunks if chunk.worker_id == box.name]
        if held and box.is_up and not box.is_frozen:
            return box, held
    return None


def _find_busy_flow(environment: ChaosEnvironment, fault: PlannedFault) -> tuple[psutil.Process, OpenChunk] | None:
    """Find a flow process with an open chunk, on a box that is not frozen. The planned box is tried first."""
    by_run = {
        str(chunk.flow_run_id): chunk for chunk in read_open_chunks(environment.engine) if _may_lose_process(chunk)
    }
    for box in _from(fault.box, environment.boxes):
        for process in box.flow_processes() if not box.is_frozen else ():
            if (chunk := by_run.get(_flow_run_of(process))) is not None:
                return process, chunk
    return None


def _may_lose_process(chunk: OpenChunk) -> bool:
    """Return whether the process of a chunk may be killed without making a healthy video fail.

    A video that is alone in its chunk has crashed twice already. A third crash would make the video fail.
    """
    return chunk.videos_claimed > 1


def _from(first: int, boxes: Sequence[Box]) -> Iterator[Box]:
    yield from boxes[first:]
    yield from boxes[:first]


def _flow_run_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("PREFECT__FLOW_RUN_ID"))
    except psutil.Error:
        return ""


def _kill_worker(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    box.send(SIGKILL)
    return _injection(fault, box.name, chunks=held)


def _lose_box(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    box.lose(fault.duration_s)
    return _injection(fault, box.name, chunks=held)


def _drain_worker(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    box.send(SIGTERM)
    return _injection(fault, box.name, chunks=held)


def _hurry_worker(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    worker = box.send(SIGTERM)
    return _injection(fault, box.name, lambda: signal_all(worker, SIGTERM), held)


def _freeze_box(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    return _injection(fault, box.name, _resume(box.freeze()), held)


def _signal_flow(number: Signals) -> Callable[[ChaosEnvironment, PlannedFault], Injection | None]:
    def signal_flow(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
        if (found := _find_busy_flow(environment, fault)) is None:
            return None
        process, chunk = found
        signal_all([process], number)
        undo = _resume([process]) if number == SIGSTOP else lambda: None
        return _injection(fault, f"a flow of {chunk.worker_id}", undo, [chunk])

    return signal_flow


def _kill_inference_server(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    if not (servers := box.inference_processes()):
        return None
    signal_all(servers, SIGKILL)
    return _injection(fault, f"the inference server of {box.name}", chunks=held)


def _expire_leases(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    if not all(map(_may_lose_process, held)):
        return None
    return _injection(fault, box.name, chunks=held) if expire_leases(environment.engine, box.name) else None


# --- servers --------------------------------------------------------------------------------------------------


def _crash_ledger(environment: ChaosEnvironment, fault: PlannedFault) -> Injection:
    environment.stack.postgres.kill()
    return _injection(fault, "Postgres", environment.stack.postgres.launch)


def _disturb_store(environment: ChaosEnvironment, fault: PlannedFault) -> Injection:
    environment.store_proxy.set_profile(SEVERE)
    return _injection(fault, "object store", lambda: environment.store_proxy.set_profile(NONE))


def _hang_store(environment: ChaosEnvironment, fault: PlannedFault) -> Injection:
    proxy = [psutil.Process(environment.store_proxy.pid)]
    signal_all(proxy, SIGSTOP)
    return _injection(fault, "object store", _resume(proxy))


def _restart_prefect(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if not environment.stack.prefect.is_ready():
        return None
    environment.stack.prefect.kill()
    environment.stack.prefect.launch()
    return _injection(fault, "Prefect server")


def _freeze_call(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    """Lock the worker's row in a transaction that stays open, as if the box had vanished during a call."""
    if (found := _find_busy_box(environment, fault)) is None:
        return None
    box, held = found
    release = hold_worker(environment.engine, box.name)
    return _injection(fault, f"a call of {box.name}", release, held) if release else None


def _lose_prefect(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if not environment.stack.prefect.is_ready():
        return None
    environment.stack.prefect.kill()
    return _injection(fault, "Prefect server", environment.stack.prefect.launch)


def _kill_control(environment: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    (control,) = environment.control
    if not control.is_up:
        return None
    control.send(SIGKILL)
    return _injection(fault, control.name)


_INJECTORS: Mapping[FaultKind, Callable[[ChaosEnvironment, PlannedFault], Injection | None]] = {
    FaultKind.KILL_WORKER: _kill_worker,
    FaultKind.LOSE_BOX: _lose_box,
    FaultKind.DRAIN_WORKER: _drain_worker,
    FaultKind.HURRY_WORKER: _hurry_worker,
    FaultKind.FREEZE_BOX: _freeze_box,
    FaultKind.FREEZE_BOX_LONG: _freeze_box,
    FaultKind.KILL_FLOW: _signal_flow(SIGKILL),
    FaultKind.STOP_FLOW: _signal_flow(SIGTERM),
    FaultKind.FREEZE_FLOW: _signal_flow(SIGSTOP),
    FaultKind.KILL_INFERENCE_SERVER: _kill_inference_server,
    FaultKind.EXPIRE_LEASES: _expire_leases,
    FaultKind.CRASH_LEDGER: _crash_ledger,
    FaultKind.FREEZE_CALL: _freeze_call,
    FaultKind.SEVERE: _disturb_store,
    FaultKind.HANG_STORE: _hang_store,
    FaultKind.RESTART_PREFECT: _restart_prefect,
    FaultKind.LOSE_PREFECT: _lose_prefect,
    FaultKind.KILL_CONTROL: _kill_control,
}

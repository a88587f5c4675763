"""How each kind of fault is done."""

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
    """A fault that has struck."""

    fault: PlannedFault
    whom: str
    heal: Undo
    """Ends it, where ending is not the product's own business."""
    chunks: tuple[UUID, ...]
    """Chunks whose holder it hit."""
    struck_at: Seconds
    """Unix time."""


def inject(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    """Do a fault. None: there is no victim now; nothing was done.

    Raises:
        FleetError: the ledger cannot be asked who could be struck; nothing was done.
    """
    return _INJECTORS[fault.kind](stage, fault)


def _done(fault: PlannedFault, whom: str, heal: Undo = lambda: None, chunks: Sequence[OpenChunk] = ()) -> Injection:
    return Injection(fault, whom, heal, tuple(chunk.chunk_id for chunk in chunks), time.time())


def _wake(processes: Sequence[psutil.Process]) -> Undo:
    return lambda: signal_all(processes, SIGCONT)


# --- boxes and their flow runs --------------------------------------------------------------------------------


def _busy_box(stage: ChaosEnvironment, fault: PlannedFault) -> tuple[Box, list[OpenChunk]] | None:
    """A box that holds chunks and that no other fault holds: the planned one, else the next."""
    open_chunks = read_open_chunks(stage.engine)
    for box in _from(fault.box, stage.boxes):
        held = [chunk for chunk in open_chunks if chunk.worker_id == box.name]
        if held and box.is_up and not box.is_frozen:
            return box, held
    return None


def _busy_flow(stage: ChaosEnvironment, fault: PlannedFault) -> tuple[psutil.Process, OpenChunk] | None:
    """A flow process that holds a chunk."""
    by_run = {str(chunk.flow_run_id): chunk for chunk in read_open_chunks(stage.engine) if _has_company(chunk)}
    for box in _from(fault.box, stage.boxes):
        for process in box.flow_processes() if not box.is_frozen else ():
            if (chunk := by_run.get(_flow_run_of(process))) is not None:
                return process, chunk
    return None


def _has_company(chunk: OpenChunk) -> bool:
    """Whether its process may die without making poison of a sound video.

    Of a video that is alone, as it is after two crashes, nothing tells poison from a third stroke of ours.
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


def _kill_worker(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    box.send(SIGKILL)
    return _done(fault, box.name, chunks=held)


def _lose_box(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    box.lose(fault.lasts_s)
    return _done(fault, box.name, chunks=held)


def _drain_worker(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    box.send(SIGTERM)
    return _done(fault, box.name, chunks=held)


def _hurry_worker(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    worker = box.send(SIGTERM)
    return _done(fault, box.name, lambda: signal_all(worker, SIGTERM), held)


def _freeze_box(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    return _done(fault, box.name, _wake(box.freeze()), held)


def _signal_flow(number: Signals) -> Callable[[ChaosEnvironment, PlannedFault], Injection | None]:
    def strike_flow(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
        if (found := _busy_flow(stage, fault)) is None:
            return None
        process, chunk = found
        signal_all([process], number)
        heal = _wake([process]) if number == SIGSTOP else lambda: None
        return _done(fault, f"a flow of {chunk.worker_id}", heal, [chunk])

    return strike_flow


def _kill_host(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    if not (hosts := box.host_processes()):
        return None
    signal_all(hosts, SIGKILL)
    return _done(fault, f"the model host of {box.name}", chunks=held)


def _expire_leases(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    if not all(map(_has_company, held)):
        return None
    return _done(fault, box.name, chunks=held) if expire_leases(stage.engine, box.name) else None


# --- servers --------------------------------------------------------------------------------------------------


def _crash_ledger(stage: ChaosEnvironment, fault: PlannedFault) -> Injection:
    stage.stack.postgres.kill()
    return _done(fault, "Postgres", stage.stack.postgres.launch)


def _raise_storm(stage: ChaosEnvironment, fault: PlannedFault) -> Injection:
    stage.line.set_profile(SEVERE)
    return _done(fault, "object store", lambda: stage.line.set_profile(NONE))


def _hang_store(stage: ChaosEnvironment, fault: PlannedFault) -> Injection:
    line = [psutil.Process(stage.line.pid)]
    signal_all(line, SIGSTOP)
    return _done(fault, "object store", _wake(line))


def _restart_prefect(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if not stage.stack.prefect.is_ready():
        return None
    stage.stack.prefect.kill()
    stage.stack.prefect.launch()
    return _done(fault, "Prefect server")


def _freeze_call(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    """What a box leaves behind that vanishes amid a call: a transaction that holds its row and does not end."""
    if (found := _busy_box(stage, fault)) is None:
        return None
    box, held = found
    let_go = hold_worker(stage.engine, box.name)
    return _done(fault, f"a call of {box.name}", let_go, held) if let_go else None


def _lose_prefect(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    if not stage.stack.prefect.is_ready():
        return None
    stage.stack.prefect.kill()
    return _done(fault, "Prefect server", stage.stack.prefect.launch)


def _kill_control(stage: ChaosEnvironment, fault: PlannedFault) -> Injection | None:
    (control,) = stage.control
    if not control.is_up:
        return None
    control.send(SIGKILL)
    return _done(fault, control.name)


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
    FaultKind.KILL_HOST: _kill_host,
    FaultKind.EXPIRE_LEASES: _expire_leases,
    FaultKind.CRASH_LEDGER: _crash_ledger,
    FaultKind.FREEZE_CALL: _freeze_call,
    FaultKind.SEVERE: _raise_storm,
    FaultKind.HANG_STORE: _hang_store,
    FaultKind.RESTART_PREFECT: _restart_prefect,
    FaultKind.LOSE_PREFECT: _lose_prefect,
    FaultKind.KILL_CONTROL: _kill_control,
}

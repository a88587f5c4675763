"""One way to call a SQL function, and what its refusals mean."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Row, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from validation.errors import BadInput, ClaimLost, FleetError, Permanent, Transient, Unreachable
from validation.ledger.engine import connect_for_call, describe_address

_CHECK = "check DATABASE_URL and that Postgres is up"


class LedgerRefused(Permanent):
    """The ledger refused a call that breaks its rules: a fault of this program."""

    def __init__(self, function: str, reason: str) -> None:
        self.function, self.reason = function, reason
        super().__init__(f"the ledger refused {function}: {reason}")


class LedgerBusy(Transient):
    """The ledger could not serve a call now: a lock, a deadlock, too many connections."""

    def __init__(self, function: str, reason: str) -> None:
        self.function, self.reason = function, reason
        super().__init__(f"the ledger could not serve {function}: {reason}")


class WorkerUnknown(Permanent):
    """A worker claims without having registered."""


class WorkerIdTaken(BadInput):
    """Another live machine heartbeats under this worker id."""

    def __init__(self, worker_id: str, other: str) -> None:
        self.worker_id, self.other = worker_id, other
        super().__init__(f"worker id {worker_id} is in use by {other}: give this machine another WORKER_ID")


class CompactionConflict(Transient):
    """What a compaction was made of is not what is current now. Nothing was changed; make it again."""


class FlowRunAlreadyHoldsChunk(Transient):
    """A flow run claims while its worker has a chunk open in its name: one that a process left behind is swept soon."""


class BoxKeyRejected(BadInput):
    """The ledger knows this worker by another machine's key, or by none."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"this machine may not be worker {worker_id}: its VFLEET_BOX_KEY is missing, of another machine, or was "
            "withdrawn. `vfleet box add` gives a machine that nobody rented a key"
        )


class WorkerQuarantined(BadInput):
    """A machine answered wrongly for a video whose answers are known. It gets no more work."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"worker {worker_id} is distrusted: its answers for a video with known answers were wrong. On the control "
            "machine, `vfleet canaries list` says what was, and `vfleet canaries clear` lets it work again"
        )


def call_function(engine: Engine, function: str, /, **arguments: Any) -> Sequence[Row[Any]]:
    """Call ``validation.<function>`` in a transaction of its own, arguments by name.

    Raises:
        ClaimLost: the chunk is not open.
        Unreachable, LedgerBusy, FlowRunAlreadyHoldsChunk: try again; nothing is known to have changed.
        LedgerRefused, WorkerUnknown, WorkerIdTaken, BoxKeyRejected, WorkerQuarantined: trying again cannot help.
    """
    named = ", ".join(f"p_{name} => :{name}" for name in arguments)
    statement = text(f"SELECT * FROM validation.{function}({named})")  # noqa: S608 - names are ours, values are bound
    try:
        with connect_for_call(engine) as connection:
            return connection.execute(statement, arguments).all()
    except DBAPIError as error:
        raise translate_error(error, engine, function, arguments) from error
    except NoConnectionFree as error:  # each waits for an answer, or for a server that is away
        raise Unreachable("the ledger", describe_address(engine), _CHECK, "no connection came free") from error


def translate_error(error: DBAPIError, engine: Engine, function: str, arguments: dict[str, Any]) -> FleetError:
    """Say what a database error asks of the caller."""
    state = getattr(error.orig, "sqlstate", None)
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else repr(error.orig)
    no_connection = state is None and isinstance(error, OperationalError | InterfaceError)
    if no_connection or (state or "").startswith(
        ("08", "57P", "28", "3D", "25P03")
    ):  # lost, shutting down, refused, no such database, cut off for its silence
        return Unreachable("the ledger", describe_address(engine), _CHECK, reason)
    if (refusal := _parse_error(state, reason, arguments)) is not None:
        return refusal
    if (state or "").startswith(("40", "53", "55", "57")):  # serialisation, resources, locks, operator intervention
        return LedgerBusy(function, reason)
    return LedgerRefused(function, reason)


_REFUSALS: Mapping[str, Callable[[str], FleetError]] = {
    "VF003": WorkerUnknown,
    "VF005": CompactionConflict,
    "VF007": BoxKeyRejected,
    "VF008": WorkerQuarantined,
    "VF009": FlowRunAlreadyHoldsChunk,
}
"""What our own functions raise with nothing but a reason, or a worker's name."""


def _parse_error(state: str | None, reason: str, arguments: dict[str, Any]) -> FleetError | None:
    """What our own functions raise, by their own codes."""
    match state:
        case "VF001":
            return ClaimLost(arguments["chunk"], reason)
        case "VF004":
            return WorkerIdTaken(arguments["worker"], reason)
    refusal = _REFUSALS.get(state or "")
    return refusal(reason) if refusal else None

"""Call a SQL function of the ledger, and translate its errors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Row, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from validation.errors import BadInput, ClaimLost, FleetError, Permanent, Transient, Unreachable
from validation.ledger.engine import connect_for_call, describe_address

_CHECK = "check DATABASE_URL and that Postgres is up"


class LedgerRefused(Permanent):
    """The ledger refused a call that breaks its rules: an error in this program."""

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
    """Another live box sends heartbeats under this worker id."""

    def __init__(self, worker_id: str, other: str) -> None:
        self.worker_id, self.other = worker_id, other
        super().__init__(f"worker id {worker_id} is in use by {other}: give this machine another WORKER_ID")


class CompactionConflict(Transient):
    """The sources of a compaction have changed since they were read. Nothing was changed; compact them again."""


class FlowRunAlreadyHoldsChunk(Transient):
    """A flow run claims while it holds an open chunk of this worker. A chunk that a dead process left is swept soon."""


class BoxKeyRejected(BadInput):
    """The box key is not the key of this worker id."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"VFLEET_BOX_KEY is missing, revoked or belongs to another worker than {worker_id}. For a machine outside "
            "the fleet, create a key with `vfleet box add`"
        )


class WorkerQuarantined(BadInput):
    """The worker's answers for a canary were wrong. It gets no more work."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"worker {worker_id} is quarantined: its answers for a video with known answers were wrong. On the control "
            "machine, `vfleet canaries list` says which, and `vfleet canaries clear` lets it work again"
        )


def call_function(engine: Engine, function: str, /, **arguments: Any) -> Sequence[Row[Any]]:
    """Call ``validation.<function>`` in a transaction of its own, arguments by name.

    Raises:
        ClaimLost: the chunk is not open.
        Unreachable, LedgerBusy, FlowRunAlreadyHoldsChunk: try again; nothing is known to have changed.
        LedgerRefused, WorkerUnknown, WorkerIdTaken, BoxKeyRejected, WorkerQuarantined: trying again cannot help.
    """
    named = ", ".join(f"p_{name} => :{name}" for name in arguments)
    statement = text(f"SELECT * FROM validation.{function}({named})")  # noqa: S608 - names are fixed, values are bound
    try:
        with connect_for_call(engine) as connection:
            return connection.execute(statement, arguments).all()
    except DBAPIError as error:
        raise translate_error(error, engine, function, arguments) from error
    except NoConnectionFree as error:  # all of them wait for an answer, or for an unreachable server
        raise Unreachable("the ledger", describe_address(engine), _CHECK, "no connection came free") from error


def translate_error(error: DBAPIError, engine: Engine, function: str, arguments: Mapping[str, Any]) -> FleetError:
    """The error that tells the caller what to do about a database error."""
    state = getattr(error.orig, "sqlstate", None)
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else repr(error.orig)
    no_connection = state is None and isinstance(error, OperationalError | InterfaceError)
    if no_connection or (state or "").startswith(_UNREACHABLE):
        return Unreachable("the ledger", describe_address(engine), _CHECK, reason)
    if (refusal := _parse_error(state, reason, arguments)) is not None:
        return refusal
    if (state or "").startswith(_BUSY):
        return LedgerBusy(function, reason)
    return LedgerRefused(function, reason)


_UNREACHABLE = (
    "08",  # connection exception
    "57P",  # shutting down, starting up, crashed
    "28",  # login refused
    "3D",  # no such database
    "25P03",  # the session was ended because it was idle in a transaction
)
_BUSY = (
    "40",  # transaction rollback: serialization failure, deadlock
    "53",  # insufficient resources: disk, memory, connections
    "55",  # object not in prerequisite state: lock not available
    "57",  # operator intervention: statement cancelled
)
_REFUSALS: Mapping[str, Callable[[str], FleetError]] = {
    "VF003": WorkerUnknown,
    "VF005": CompactionConflict,
    "VF007": BoxKeyRejected,
    "VF008": WorkerQuarantined,
    "VF009": FlowRunAlreadyHoldsChunk,
}
"""SQLSTATEs of the ledger's own functions whose message is a reason or the name of a worker."""


def _parse_error(state: str | None, reason: str, arguments: Mapping[str, Any]) -> FleetError | None:
    match state:
        case "VF001":
            return ClaimLost(arguments["chunk"], reason)
        case "VF004":
            return WorkerIdTaken(arguments["worker"], reason)
    refusal = _REFUSALS.get(state or "")
    return refusal(reason) if refusal else None

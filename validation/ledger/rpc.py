"""Calls SQL functions of the ledger, and translates database errors to errors of this package."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, Row
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from validation.errors import AccessRefused, BadInput, ClaimLost, FleetError, Permanent, Transient, Unreachable
from validation.ledger.engine import connect_for_call, describe_address

_CHECK = "check DATABASE_URL and that Postgres is up"


class LedgerRefused(Permanent):
    """The ledger refused a call, and refuses a retry too.

    The arguments break a rule, the box is at a limit, or this code does not fit the schema or the privileges.
    """

    def __init__(self, function: str, reason: str) -> None:
        self.function, self.reason = function, reason
        super().__init__(f"the ledger refused {function}: {reason}")


class LedgerBusy(Transient):
    """The ledger cannot serve a call now, for example because of a lock, a connection limit or a read-only database."""

    def __init__(self, function: str, reason: str) -> None:
        self.function, self.reason = function, reason
        super().__init__(f"the ledger could not serve {function}: {reason}")


class LoginRefused(AccessRefused):
    """The database server refuses the login, or has no database with this name."""

    def __init__(self, address: str, reason: str) -> None:
        self.address, self.reason = address, reason
        super().__init__(
            f"the ledger at {address} refuses the login of DATABASE_URL ({reason}): correct its user, password or "
            "database, with special characters of the password percent-encoded"
        )


class WorkerUnknown(Permanent):
    """A worker that never registered tried to claim videos."""


class WorkerIdTaken(BadInput):
    """Another instance sends heartbeats under this worker id, or has taken over the row of the worker."""

    def __init__(self, worker_id: str, other: str) -> None:
        self.worker_id, self.other = worker_id, other
        super().__init__(f"worker id {worker_id} is in use by {other}: give this machine another WORKER_ID")


class CompactionConflict(Transient):
    """The sources of a compaction have changed since they were read. Nothing was changed; a retry may succeed."""


class FlowRunAlreadyHoldsChunk(Transient):
    """A flow run claimed while it holds an open chunk of this worker. The sweep takes back chunks of dead processes."""


class ShardNotRestored(Permanent):
    """A shard of the bucket cannot be recorded in the ledger again. Nothing was changed."""


class BoxKeyRejected(BadInput):
    """The box key is missing, is not the key of this worker id, or ended with the rental of its box."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"VFLEET_BOX_KEY is missing, revoked or belongs to another worker than {worker_id}. For a machine outside "
            "the fleet, create a key with `vfleet box add`"
        )


class WorkerQuarantined(BadInput):
    """The worker may not register, send heartbeats or claim, because its box is quarantined.

    The box answered a canary wrongly, failed videos that other boxes validate, or failed videos whose objects the
    control plane can read.
    """

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(
            f"worker {worker_id} is quarantined: its answers for a video with known answers were wrong, or it failed "
            "videos that other boxes validate or the control machine can read. On the control machine, `vfleet status` "
            "says which, and `vfleet canaries clear` lets it work again"
        )


def call_function(engine: Engine, function: str, /, **arguments: Any) -> Sequence[Row[Any]]:
    """Call ``validation.<function>`` in its own transaction, with named arguments. Returns the rows of the result.

    Raises:
        ClaimLost: the chunk is not open, or another worker holds it.
        Unreachable, LedgerBusy, FlowRunAlreadyHoldsChunk, CompactionConflict: a retry may succeed. After Unreachable
            the call may have been executed.
        LedgerRefused, LoginRefused, WorkerUnknown, WorkerIdTaken, BoxKeyRejected: a retry cannot succeed.
        WorkerQuarantined, ShardNotRestored: a retry cannot succeed.
    """
    # As SQL of the driver: compiling a statement costs the client more than the call.
    named = ", ".join(f"p_{name} => %({name})s" for name in arguments)
    statement = f"SELECT * FROM validation.{function}({named})"  # noqa: S608 - names are fixed, values are bound
    try:
        with connect_for_call(engine) as connection:
            return connection.exec_driver_sql(statement, arguments).all()
    except DBAPIError as error:
        raise translate_error(error, engine, function, arguments) from error
    except NoConnectionFree as error:  # all connections wait for an answer or for an unreachable server
        raise Unreachable("the ledger", describe_address(engine), _CHECK, "no connection came free") from error


def translate_error(error: DBAPIError, engine: Engine, function: str, arguments: Mapping[str, Any]) -> FleetError:
    """Return the error of this package for a database error. None of these errors counts against a video."""
    state = getattr(error.orig, "sqlstate", None) or ""
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else repr(error.orig)
    if state.startswith(_LOGIN_REFUSED) or (not state and is_login_refusal(str(error.orig))):
        return LoginRefused(describe_address(engine), reason)
    # psycopg itself raises an InternalError without a SQLSTATE if the session ends in the middle of a reply.
    no_connection = not state and isinstance(error, OperationalError | InterfaceError | InternalError)
    if no_connection or state.startswith(_UNREACHABLE):
        return Unreachable("the ledger", describe_address(engine), _CHECK, reason)
    if (refusal := _parse_error(state, reason, arguments)) is not None:
        return refusal
    if not state or state.startswith(_REFUSED):
        return LedgerRefused(function, reason)
    return LedgerBusy(function, reason)


def is_login_refusal(message: str) -> bool:
    """Return whether the error message of a failed connection is about a refused login or a missing database."""
    return any(words in message for words in LOGIN_REFUSALS) or _NO_SUCH.search(message) is not None


_LOGIN_REFUSED = ("28", "3D")
"""First characters of SQLSTATEs for a refused login and a missing database. Poolers also send these states if they
cannot authenticate a client at their server."""
LOGIN_REFUSALS = (
    "authentication failed",
    "is not permitted to log in",
    "no pg_hba.conf entry",
    "no password supplied",
    "Tenant or user not found",  # Supavisor: the project's reference is missing in the user's name
    "no such user",  # PgBouncer
    "no such database",  # PgBouncer
)
"""Parts of error messages about a refused login. libpq gives no SQLSTATE for a refused connection."""
_NO_SUCH = re.compile(r'(role|database) "[^"]*" does not exist')
_UNREACHABLE = (
    "08",  # connection exception; PgBouncer ends sessions with 08P01: query_wait_timeout, server login failed
    "57P",  # the server shuts down, starts up, or has crashed
    "25P03",  # the session was ended because it was idle in a transaction
    "25P04",  # the session was ended by transaction_timeout
)
"""First characters of SQLSTATEs after which the session has ended.

The classes are documented in appendix A of Postgres' manual (postgresql.org/docs/current/errcodes-appendix.html), the
states of PgBouncer in pgbouncer.org/config.html, under timeouts."""
_REFUSED = (
    "0A",  # feature not supported
    "21",  # cardinality violation
    "22",  # data exception: a value that the function cannot read
    "23",  # integrity constraint violation
    "2B", "2F", "38", "39", "3B", "3F",  # errors within functions, of privileges and schema names
    "42",  # syntax error, missing object or privilege: this code and the database do not fit
    "44",  # WITH CHECK OPTION violation
    "P0",  # PL/pgSQL: RAISE without a code, no or too many rows
    "VF",  # the ledger's own refusals
)  # fmt: skip
"""First characters of SQLSTATEs that a retry of the same call would get again.

Every other state may be temporary, so a retry may succeed:

- 40, 53, 55, 57: deadlock, out of memory, disk or connections, lock not available, statement cancelled;
- 25006: the database is read-only, for example a replica after a failover, or a database of Supabase with a disk that
  is 95 % full (supabase.com/docs/guides/platform/database-size);
- 58: the server's disk failed;
- XX000: an error of the pooler itself. Supavisor: "DbHandler exited", "Unable to check out process from the pool due
  to timeout", "Max client connections reached" (github.com/supabase/supavisor, lib/supavisor/client_handler.ex); and
  Postgres' own "tuple concurrently updated";
- 26: a prepared statement is missing, because a pooler prepared it in another session.
"""
_REFUSALS: Mapping[str, Callable[[str], FleetError]] = {
    "VF003": WorkerUnknown,
    "VF005": CompactionConflict,
    "VF007": BoxKeyRejected,
    "VF008": WorkerQuarantined,
    "VF009": FlowRunAlreadyHoldsChunk,
    "VF010": ShardNotRestored,
}
"""SQLSTATE -> error class, for states of the ledger's functions whose message is a reason or a worker id."""


def _parse_error(state: str, reason: str, arguments: Mapping[str, Any]) -> FleetError | None:
    match state:
        case "VF001":
            return ClaimLost(arguments["chunk"], reason)
        case "VF004":
            return WorkerIdTaken(arguments["worker"], reason)
    refusal = _REFUSALS.get(state)
    return refusal(reason) if refusal else None

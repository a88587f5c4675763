"""Checks of the ledger and its queue.

The checks cover connection, encryption, pooler, logins, migration, write access, indexes, and the language labels of
the queue.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import DBAPIError

from validation.doctor.check import CheckWarning
from validation.domain import UNKNOWN_LANGUAGE, UNSUPPORTED_LANGUAGE, Fault, label_fault
from validation.errors import BadInput, Unreachable
from validation.ledger.chunks import count_labels
from validation.ledger.engine import describe_address, is_remote, open_engine, parse_database_url
from validation.ledger.migrate import find_invalid_indexes, newest_migration, require_newest_migration
from validation.ledger.queries import read_altered_logins
from validation.ledger.queue_table import require_queue
from validation.ledger.rpc import is_login_refusal, translate_error
from validation.models.label_files import read_known_languages
from validation.services import open_ledger
from validation.settings import Settings

SQL = Path(__file__).resolve().parents[2] / "sql/doctor"
CONNECTIONS_PER_BOX = 3
"""Number of connections of one box: one each for the worker and two flow runs (validation/ledger/engine.py)."""
CONNECTIONS_RESERVED = 20
"""Number of connections that are kept for the control machine, the operator and Postgres itself."""
_SUPABASE_POOLER = ".pooler.supabase.com"
_SESSION_PORT, _TRANSACTION_PORT = 5432, 6543
_VERIFIED = frozenset({"verify-ca", "verify-full"})
_BOX_NEEDS = frozenset({"register_worker", "claim_chunk", "renew_chunk", "commit_chunk", "release_chunk"})
_CONTROL_NEEDS = frozenset({"sweep_stale_claims", "mark_stale_workers", "fleet_set_target"})
BOX_VARIABLE = "BOX_DATABASE_URL"


class SessionPooler(BadInput):
    """The pooler is in session mode, so each client occupies a backend as long as the client is connected."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"DATABASE_URL names a pooler in session mode ({address}), which has too few places for a fleet: "
            f"write port {_TRANSACTION_PORT}, its transaction mode"
        )


class WrongRole(BadInput):
    """The login of this machine may not execute functions that the machine needs."""

    def __init__(self, login: str, missing: frozenset[str], role: str) -> None:
        self.login, self.missing, self.role = login, missing, role
        super().__init__(
            f"login {login} may not execute {', '.join(sorted(missing))}: GRANT {role} TO {login}, or use another login"
        )


class BoxLoginRefused(BadInput):
    """The ledger refuses the login that boxes use."""

    def __init__(self, login: str, evidence: object) -> None:
        self.login = login
        super().__init__(
            f"the ledger refuses the boxes' login {login}: if {BOX_VARIABLE} is right, a box has changed the password "
            f"of all; set it again as the database's owner, ALTER ROLE {login} PASSWORD '...': {evidence}"
        )


def check_database(settings: Settings) -> str:
    """Check that DATABASE_URL leads to a Postgres server that accepts the login."""
    with _connect(settings) as connection:
        (version,) = connection.exec_driver_sql("SHOW server_version").one()
    return f"Postgres {version} at {describe_address(_engine(settings))}"


def check_pooler(settings: Settings) -> str:
    """Check that clients share connections through a pooler in transaction mode, or that the database is local.

    Raises:
        SessionPooler: DATABASE_URL names Supabase's pooler in session mode.
        CheckWarning: a remote database has no pooler; the message states how many boxes can connect.
    """
    url = parse_database_url(settings.database_url.get_secret_value())
    if (url.host or "").endswith(_SUPABASE_POOLER) and (url.port or _SESSION_PORT) == _SESSION_PORT:
        raise SessionPooler(describe_address(_engine(settings)))
    with ExitStack() as both:
        sessions = [_read(both.enter_context(_connect(settings)), "session") for _ in range(2)]
    if sessions[0].backend == sessions[1].backend:
        return "a pooler in transaction mode"
    limit = sessions[0].max_connections
    found = f"connections are not shared: {limit} of them are enough for {limit // CONNECTIONS_PER_BOX} boxes"
    if is_remote(url):
        raise CheckWarning(f"{found}: for more boxes, let DATABASE_URL name a pooler in transaction mode")
    return found


def check_tls(settings: Settings) -> str | None:
    """Check that the connection is encrypted and the server's certificate verified, unless the database is local.

    A local database is checked too if DATABASE_URL has an ``sslmode``.
    """
    url = parse_database_url(settings.database_url.get_secret_value())
    if not is_remote(url) and "sslmode" not in url.query:
        return None
    with _connect(settings) as connection:
        driver = connection.connection.driver_connection
        encrypted = bool(driver and driver.pgconn.ssl_in_use)
    mode = url.query.get("sslmode")
    if not encrypted:
        raise BadInput(f"the connection to the ledger is not encrypted (sslmode={mode}): remove it from DATABASE_URL")
    if mode not in _VERIFIED:
        raise CheckWarning(
            f"TLS without verification of the server (sslmode={mode}): write sslmode=verify-full and sslrootcert=FILE"
        )
    return f"TLS, verified ({mode})"


def check_migration(settings: Settings) -> str:
    """Check that the ledger is at the migration of this version."""
    require_newest_migration(_engine(settings))
    return f"at migration {newest_migration()}"


def check_box_role(settings: Settings) -> str:
    """Check that the login of DATABASE_URL may execute a box's functions, no control function, and reaches no table."""
    powers = _read_powers(settings, _BOX_NEEDS, "validation_worker")
    if powers.is_superuser or powers.tables or _CONTROL_NEEDS & set(powers.functions):
        reach = "everything" if powers.is_superuser else ", ".join(powers.tables[:3]) or "control functions"
        raise CheckWarning(
            f"login {powers.login} reaches {reach}: give boxes a login that has the role validation_worker and no other"
        )
    return f"{powers.login} may execute the worker's {len(powers.functions)} functions and read no table"


def check_control_role(settings: Settings) -> str:
    """Check that the login of DATABASE_URL may execute the functions that the control machine needs."""
    powers = _read_powers(settings, _CONTROL_NEEDS, "validation_control")
    return f"{powers.login} may execute {len(powers.functions)} functions"


def check_box_login(settings: Settings) -> str | None:
    """Check that the ledger accepts the login that boxes share, with the original password and session settings.

    A box could have altered them, because Postgres lets every login alter itself.
    """
    if not (address := os.environ.get(BOX_VARIABLE)):
        return None
    login = parse_database_url(address).username or "box"
    if altered := read_altered_logins(open_ledger(settings, check_migration=False)):
        raise CheckWarning(
            f"every session of the boxes' login {altered[0].login} sets {altered[0].settings}, which any box may have "
            f"configured: unless you did, run as the database's owner {altered[0].remedy}"
        )
    engine = open_engine(address)
    try:
        engine.connect().close()
    except DBAPIError as error:
        evidence = str(error.orig)
        if is_login_refusal(evidence):
            raise BoxLoginRefused(login, evidence.strip().splitlines()[-1]) from None
        where = engine.url.render_as_string()
        raise Unreachable("the ledger of the boxes", where, f"check {BOX_VARIABLE}", evidence) from None
    finally:
        engine.dispose()
    return f"login {login} is accepted"


def check_box_limits(settings: Settings) -> str | None:
    """Check the limits of the logins of boxes: connections, sessions, creation of objects, other databases."""
    with _connect(settings) as connection, connection.begin():
        logins = connection.exec_driver_sql((SQL / "box_logins.sql").read_text(encoding="utf-8")).all()
    for each in logins:
        reserved = each.max_connections - CONNECTIONS_RESERVED
        if not 0 <= each.connection_limit <= reserved:
            raise CheckWarning(
                f"login {each.login} may take all {each.max_connections} connections, and then no command can revoke a "
                f"box: as the database's owner, ALTER ROLE {each.login} CONNECTION LIMIT {reserved}"
            )
        if not each.can_be_ended:
            raise CheckWarning(
                f"the sweep cannot end sessions of login {each.login} that keep locks: as the login that created it, "
                f"GRANT {each.login} TO validation_owner"
            )
        if each.may_create:
            raise CheckWarning(
                f"login {each.login} may create objects in schema public: as the schema's owner, "
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
            )
        if each.other_databases:
            raise CheckWarning(
                f"login {each.login} may connect to other databases of this Postgres, where it can take advisory locks "
                "until no login can connect anywhere: as their owner, REVOKE CONNECT ON DATABASE "
                f"{', '.join(each.other_databases)} FROM PUBLIC"
            )
    return ", ".join(f"{each.login}: {each.connection_limit} connections" for each in logins) or None


def _read_powers(settings: Settings, needed: frozenset[str], role: str) -> Row[Any]:
    """Read what the login of DATABASE_URL may do: login, is_superuser, functions and tables (sql/doctor/powers.sql).

    Raises:
        WrongRole: the login may not execute one of the ``needed`` functions. The message proposes ``role``.
    """
    with _connect(settings) as connection:
        powers = _read(connection, "powers")
    if missing := needed - set(powers.functions) if not powers.is_superuser else frozenset():
        raise WrongRole(powers.login, missing, role)
    return powers


def read_session(settings: Settings) -> Row[Any]:
    """Read the clock and the connection limit of the database. Raises as ``check_database`` does."""
    return read_one(settings, "session")


def read_one(settings: Settings, question: str) -> Row[Any]:
    """Run the statement ``sql/doctor/<question>.sql`` and return its only row. Raises as ``check_database`` does."""
    with _connect(settings) as connection:
        return _read(connection, question)


def _engine(settings: Settings) -> Engine:
    """Return the engine of the ledger. It connects on first use; the migration is not compared with this code."""
    return open_ledger(settings, check_migration=False)


@contextmanager
def _connect(settings: Settings) -> Iterator[Connection]:
    """Connect to the ledger, and translate a database error to an error of this project."""
    engine = _engine(settings)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise translate_error(error, engine, "doctor", {}) from None


def _read(connection: Connection, question: str) -> Row[Any]:
    """Run ``sql/doctor/<question>.sql`` in a transaction of its own and return its only row."""
    with connection.begin():
        return connection.exec_driver_sql((SQL / f"{question}.sql").read_text(encoding="utf-8")).one()


_MAX_LABELS = 5


def check_writable(settings: Settings) -> str:
    """Check that the database accepts writes: it is not a replica, and its disk is not full."""
    state = read_one(settings, "writable")
    if state.is_replica:
        raise BadInput("DATABASE_URL leads to a read-only replica: name the primary server")
    if state.is_read_only:
        raise BadInput(
            "the database is read-only, as a hosted one becomes at 95 % of its disk: enlarge the disk, then set "
            "default_transaction_read_only to off"
        )
    return "the database accepts changes"


def check_queue(settings: Settings) -> str:
    """Check that `video_queue` has the columns, types and key that the ledger needs, or does not exist yet."""
    exists = require_queue(open_ledger(settings, check_migration=False))
    return "video_queue has every column" if exists else "there is no video_queue yet: `vfleet migrate` makes it"


def check_indexes(settings: Settings) -> str:
    """Check that no index of the ledger is invalid, because a claim would then read the whole queue."""
    if invalid := find_invalid_indexes(open_ledger(settings, check_migration=False)):
        raise BadInput(f"no query uses the indexes {', '.join(invalid)}: `vfleet migrate` rebuilds them")
    return "all indexes are valid"


def check_labels(settings: Settings) -> str:
    """Check that ISO 639 and the suite's models know the language labels of the pending videos.

    A segment with an unknown label is never accepted.
    """
    counts = count_labels(open_ledger(settings, check_migration=False), settings.worker_id, settings.languages)
    known = read_known_languages(settings.suite, settings.weights)
    missing = sum(count for label, count in counts.items() if not label)
    faults = {label: label_fault(label, known or ()) for label in counts}
    problems = [
        *_name_labels(counts, faults, UNKNOWN_LANGUAGE, "a label that ISO 639 does not know"),
        *_name_labels(counts, faults, UNSUPPORTED_LANGUAGE, f"a label that no model of suite {settings.suite} knows"),
        *([f"{missing:,} videos have no label"] if missing else []),
    ]
    if problems:
        raise CheckWarning(f"{'; '.join(problems)}: none of their segments is accepted; correct video_queue.language")
    if not counts:
        return "no video is pending"
    compared = (
        "all known" if known is not None else "all in ISO 639; boxes compare them with the labels of their models"
    )
    return f"{len(counts)} labels, {compared}"


def _name_labels(
    counts: Mapping[str, int], faults: Mapping[str, Fault | None], fault: Fault, problem: str
) -> Iterator[str]:
    """Yield the part of the warning about labels with this fault; yield nothing if no label has the fault."""
    found = {label: counts[label] for label, own in faults.items() if own == fault}
    if found:
        named = ", ".join(f"{label!r} ({count:,})" for label, count in list(found.items())[:_MAX_LABELS])
        more = f" and {len(found) - _MAX_LABELS} more" if len(found) > _MAX_LABELS else ""
        yield f"{sum(found.values()):,} videos have {problem}: {named}{more}"

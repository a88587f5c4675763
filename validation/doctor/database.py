"""The ledger: can it be reached, safely, by the right login, through the right door?"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row
from sqlalchemy.exc import DBAPIError

from validation.doctor.check import CheckWarning
from validation.errors import BadInput, Unreachable
from validation.ledger.engine import describe_address, is_remote, open_engine, parse_database_url
from validation.ledger.migrate import known_revision, require_revision
from validation.ledger.queries import read_altered_logins
from validation.ledger.rpc import translate_error
from validation.settings import Settings

SQL = Path(__file__).resolve().parents[2] / "sql/doctor"
CONNECTIONS_A_BOX = 3
"""What its three processes hold: the worker and two flow runs (validation/ledger/engine.py)."""
_SUPABASE_POOLER = ".pooler.supabase.com"
_SESSION_PORT, _TRANSACTION_PORT = 5432, 6543
_VERIFIED = frozenset({"verify-ca", "verify-full"})
_BOX_NEEDS = frozenset({"register_worker", "claim_chunk", "renew_chunk", "commit_chunk", "release_chunk"})
_CONTROL_NEEDS = frozenset({"sweep_stale_claims", "mark_stale_workers", "fleet_set_target"})
VARIABLE = "BOX_DATABASE_URL"
REFUSALS = ("authentication failed", "is not permitted to log in", "does not exist")
"""What Postgres says to a login that it does not let in. The words, for libpq keeps no code of a refused connection."""


class SessionPooler(BadInput):
    """The address is of a pooler that gives every client a backend of its own for as long as it is connected."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"DATABASE_URL leads to a pooler in session mode ({address}), whose few places a fleet uses up: "
            f"write port {_TRANSACTION_PORT}, its transaction mode"
        )


class WrongRole(BadInput):
    """The login may not do what this machine is for."""

    def __init__(self, login: str, missing: frozenset[str], role: str) -> None:
        self.login, self.missing, self.role = login, missing, role
        super().__init__(
            f"the login {login} may not execute {', '.join(sorted(missing))}: GRANT {role} TO {login}, or use another"
        )


class BoxLoginRefused(BadInput):
    """The ledger does not let boxes in with what they are told."""

    def __init__(self, login: str, evidence: object) -> None:
        self.login = login
        super().__init__(
            f"the ledger does not let boxes in as {login}: if {VARIABLE} is right, one of them has changed the "
            f"password for all; set it again as the database's owner, ALTER ROLE {login} PASSWORD '...': {evidence}"
        )


def check_database(settings: Settings) -> str:
    """The address is that of a Postgres which lets us in."""
    with _connect(settings) as connection:
        (version,) = connection.exec_driver_sql("SHOW server_version").one()
    return f"Postgres {version} at {describe_address(_engine(settings))}"


def check_pooler(settings: Settings) -> str:
    """Connections are shared, or there are enough: a pooler in transaction mode serves idle clients by one backend."""
    url = parse_database_url(settings.database_url.get_secret_value())
    if (url.host or "").endswith(_SUPABASE_POOLER) and (url.port or _SESSION_PORT) == _SESSION_PORT:
        raise SessionPooler(describe_address(_engine(settings)))
    with ExitStack() as both:
        sessions = [_read(both.enter_context(_connect(settings)), "session") for _ in range(2)]
    if sessions[0].backend == sessions[1].backend:
        return "a pooler in transaction mode"
    most = sessions[0].max_connections
    found = f"connections are not shared: {most} of them bear {most // CONNECTIONS_A_BOX} boxes at most"
    if is_remote(url):
        raise CheckWarning(f"{found}: for more, give DATABASE_URL the address of a pooler in transaction mode")
    return found


def check_tls(settings: Settings) -> str | None:
    """What travels to another machine is encrypted, and the other end is who it says it is."""
    url = parse_database_url(settings.database_url.get_secret_value())
    if not is_remote(url) and "sslmode" not in url.query:
        return None
    with _connect(settings) as connection:
        driver = connection.connection.driver_connection
        encrypted = bool(driver and driver.pgconn.ssl_in_use)
    mode = url.query.get("sslmode")
    if not encrypted:
        raise BadInput(f"the way to the ledger is not encrypted (sslmode={mode}): take sslmode out of DATABASE_URL")
    if mode not in _VERIFIED:
        raise CheckWarning(
            f"TLS, but nobody verifies to whom (sslmode={mode}): write sslmode=verify-full and sslrootcert=FILE"
        )
    return f"TLS, verified ({mode})"


def check_migration(settings: Settings) -> str:
    """The ledger is the one that this code knows."""
    require_revision(_engine(settings))
    return f"at migration {known_revision()}"


def check_box_role(settings: Settings) -> str:
    """The login may do a box's work and nothing beside it."""
    powers = _read_powers(settings, _BOX_NEEDS, "validation_worker")
    if powers.is_superuser or powers.tables or _CONTROL_NEEDS & set(powers.functions):
        reach = "everything" if powers.is_superuser else ", ".join(powers.tables[:3]) or "the control plane's functions"
        raise CheckWarning(
            f"the login {powers.login} reaches {reach}: give boxes one that has the role validation_worker and no other"
        )
    return f"{powers.login} may execute the worker's {len(powers.functions)} functions and read no table"


def check_control_role(settings: Settings) -> str:
    """The login may do the control plane's work."""
    powers = _read_powers(settings, _CONTROL_NEEDS, "validation_control")
    return f"{powers.login} may execute {len(powers.functions)} functions"


def check_box_login(settings: Settings) -> str | None:
    """What boxes are told lets them in, and none of them has changed what their sessions begin with."""
    if not (address := os.environ.get(VARIABLE)):
        return None
    login = parse_database_url(address).username or "box"
    if altered := read_altered_logins(open_engine(settings.database_url.get_secret_value(), settings.box_key)):
        raise CheckWarning(
            f"every session of the boxes' login {altered[0].login} sets {altered[0].settings}, and any box may have "
            f"told it to: if you did not, say as the database's owner {altered[0].remedy}"
        )
    engine = open_engine(address)
    try:
        engine.connect().close()
    except DBAPIError as error:
        evidence = str(error.orig)
        if any(refusal in evidence for refusal in REFUSALS):
            raise BoxLoginRefused(login, evidence.strip().splitlines()[-1]) from None
        where = engine.url.render_as_string()
        raise Unreachable("the ledger that boxes are told of", where, f"check {VARIABLE}", evidence) from None
    finally:
        engine.dispose()
    return f"{login} is let in"


def _read_powers(settings: Settings, needed: frozenset[str], role: str) -> Row[Any]:
    with _connect(settings) as connection:
        powers = _read(connection, "powers")
    if missing := needed - set(powers.functions) if not powers.is_superuser else frozenset():
        raise WrongRole(powers.login, missing, role)
    return powers


def read_session(settings: Settings) -> Row[Any]:
    """The database's clock and limits. Raises as ``check_database``."""
    with _connect(settings) as connection:
        return _read(connection, "session")


def _engine(settings: Settings) -> Engine:
    return open_engine(settings.database_url.get_secret_value(), settings.box_key)


@contextmanager
def _connect(settings: Settings) -> Iterator[Connection]:
    engine = _engine(settings)
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise translate_error(error, engine, "doctor", {}) from None


def _read(connection: Connection, question: str) -> Row[Any]:
    with connection.begin():
        return connection.exec_driver_sql((SQL / f"{question}.sql").read_text()).one()

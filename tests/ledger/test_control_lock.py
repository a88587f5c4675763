"""The lock of the control run, on a real Postgres and with a real process that dies."""

import subprocess
import sys

import pytest

from tests.support.ledger_helpers import fetch
from validation.ledger.control_lock import hold_control_lock
from validation.ledger.rpc import LedgerBusy

HOLDER = """
import sys
from validation.ledger.control_lock import hold_control_lock
from validation.ledger.engine import open_engine
with hold_control_lock(open_engine(sys.argv[1]), wait_s=1):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_control_run_waits_for_the_first(connect):
    """It gives up after its time, and gets the lock as soon as the first ends."""
    one, two = connect(), connect()
    with hold_control_lock(one, wait_s=1), pytest.raises(LedgerBusy), hold_control_lock(two, wait_s=1):
        pass
    with hold_control_lock(two, wait_s=1):
        pass


def test_killed_control_run_delays_no_other(ledger):
    """Its lock is free when its process is gone, and not when some lease ends."""
    command = [sys.executable, "-c", HOLDER, ledger.url.render_as_string(hide_password=False)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerBusy), hold_control_lock(ledger, wait_s=1):
            pass
        holder.kill()
        holder.wait()
        with hold_control_lock(ledger, wait_s=10):
            pass


def test_lock_of_a_lost_machine_is_freed(ledger):
    """Postgres ends a transaction whose machine gives no sign for a minute; a living one gives a sign every 15 s."""
    with hold_control_lock(ledger, wait_s=1):
        (idle,) = fetch(
            ledger, "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%lock_control%'"
                    " AND pid <> pg_backend_pid()"
        )  # fmt: skip
        assert idle == ("idle in transaction",)

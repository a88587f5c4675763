"""One box can lock out all others, because they share a login; the doctor of the control machine notices it."""

from uuid import uuid4

import psycopg
import pytest

from validation.doctor.check import CheckWarning
from validation.doctor.database import BoxLoginRefused, check_box_limits, check_box_login
from validation.errors import Unreachable


@pytest.fixture
def box_login(healthy, box):
    """Settings of a control machine whose boxes share a login, and a function that executes a statement as a box."""
    owner = box.environment["DATABASE_URL"].replace("+psycopg", "")
    name = f"box_{uuid4().hex[:8]}"
    head, _, tail = owner.partition("://")
    box_url = f"{head}://{name}:x@{tail.partition('@')[2]}"

    def execute(statement: str) -> None:
        with psycopg.connect(box_url, autocommit=True) as connection:
            connection.execute(statement)

    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE validation_worker")
        yield healthy(BOX_DATABASE_URL=box_url), execute
        connection.execute(f"DROP ROLE {name}")


def test_unaltered_box_login_passes(box_login):
    """The check logs in with BOX_DATABASE_URL."""
    settings, _ = box_login
    assert "is accepted" in check_box_login(settings)


def test_box_login_check_is_skipped_without_box_database_url(healthy, monkeypatch):
    """A demo, or a single machine at home, has no shared login."""
    monkeypatch.delenv("BOX_DATABASE_URL", raising=False)
    assert check_box_login(healthy()) is None


def test_changed_box_password_is_named(box_login):
    """The message holds the statement that sets the password again, and no password."""
    settings, execute = box_login
    execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    with pytest.raises(BoxLoginRefused, match=r"ALTER ROLE box_\w+ PASSWORD '\.\.\.'.*authentication") as refused:
        check_box_login(settings)
    assert ":x@" not in str(refused.value)


def test_unreachable_ledger_is_not_a_changed_password(healthy):
    """The message names the address and does not suggest to alter the login."""
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/x is unreachable: check BOX_DATABASE_URL") as unreachable:
        check_box_login(healthy(BOX_DATABASE_URL="postgresql://box:secret@127.0.0.1:9/x"))
    assert "ALTER" not in str(unreachable.value)
    assert "secret" not in str(unreachable.value)


@pytest.mark.parametrize("where", ["", " IN DATABASE {}"])
def test_altered_session_settings_of_the_box_login_are_named(box_login, where):
    """The message holds the statement that resets the setting, and the check passes after it."""
    settings, execute = box_login
    database = settings.database_url.get_secret_value().rpartition("/")[2].partition("?")[0]
    execute(f"ALTER ROLE CURRENT_USER{where.format(database)} SET statement_timeout = '1ms'")
    with pytest.raises(CheckWarning, match=r"sets statement_timeout=1ms.*ALTER ROLE box_\w+.* RESET ALL") as warning:
        check_box_login(settings)
    with psycopg.connect(settings.database_url.get_secret_value().replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(str(warning.value).rpartition("owner ")[2])
    assert "is accepted" in check_box_login(settings)


def test_box_login_without_limits_is_named(box_login):
    """One statement after the other, as the doctor gives them; then the check passes."""
    settings, _ = box_login
    address = settings.database_url.get_secret_value().replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as owner:
        owner.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
        for problem in (r"may take all \d+ connections", "cannot end sessions", "may create objects in schema public"):
            with pytest.raises(CheckWarning, match=problem) as doubt:
                check_box_limits(settings)
            owner.execute(str(doubt.value).rpartition(", ")[2])
        with pytest.raises(CheckWarning, match="may connect to other databases") as doubt:
            check_box_limits(settings)
        remedy = str(doubt.value).partition("owner, ")[2]
        owner.execute(remedy)
        assert "connections" in (check_box_limits(settings) or "")
        owner.execute(remedy.replace("REVOKE", "GRANT").replace(" FROM ", " TO "))

"""One box can shut all others out, for they share a login; the control machine's doctor says so."""

from uuid import uuid4

import psycopg
import pytest

from validation.doctor.check import CheckWarning
from validation.doctor.database import BoxLoginRefused, check_box_limits, check_box_login
from validation.errors import Unreachable


@pytest.fixture
def box_login(well, box):
    """Settings of a control machine whose boxes share a login, and a way to say something as one of those boxes."""
    owner = box.environment["DATABASE_URL"].replace("+psycopg", "")
    name = f"box_{uuid4().hex[:8]}"
    head, _, tail = owner.partition("://")
    theirs = f"{head}://{name}:x@{tail.partition('@')[2]}"

    def say(statement: str) -> None:
        with psycopg.connect(theirs, autocommit=True) as connection:
            connection.execute(statement)

    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' IN ROLE validation_worker")
        yield well(BOX_DATABASE_URL=theirs), say
        connection.execute(f"DROP ROLE {name}")


def test_unaltered_box_login_passes(box_login):
    """And its name is told."""
    settings, _ = box_login
    assert "is accepted" in check_box_login(settings)


def test_box_login_check_is_skipped_without_box_database_url(well, monkeypatch):
    """A machine at home, or a demo."""
    monkeypatch.delenv("BOX_DATABASE_URL", raising=False)
    assert check_box_login(well()) is None


def test_changed_box_password_is_named(box_login):
    """With what the owner says to set it again, and without the password."""
    settings, say = box_login
    say("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    with pytest.raises(BoxLoginRefused, match=r"ALTER ROLE box_\w+ PASSWORD '\.\.\.'.*authentication") as refused:
        check_box_login(settings)
    assert ":x@" not in str(refused.value)


def test_unreachable_ledger_is_not_a_changed_password(well):
    """The address is named, and the message does not ask for an altered login."""
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9/x is unreachable: check BOX_DATABASE_URL") as away:
        check_box_login(well(BOX_DATABASE_URL="postgresql://box:secret@127.0.0.1:9/x"))
    assert "ALTER" not in str(away.value)
    assert "secret" not in str(away.value)


@pytest.mark.parametrize("where", ["", " IN DATABASE {}"])
def test_altered_session_settings_of_the_box_login_are_named(box_login, where):
    """With what the owner says to take it back, and then it is gone."""
    settings, say = box_login
    database = settings.database_url.get_secret_value().rpartition("/")[2].partition("?")[0]
    say(f"ALTER ROLE CURRENT_USER{where.format(database)} SET statement_timeout = '1ms'")
    with pytest.raises(CheckWarning, match=r"sets statement_timeout=1ms.*ALTER ROLE box_\w+.* RESET ALL") as doubt:
        check_box_login(settings)
    with psycopg.connect(settings.database_url.get_secret_value().replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(str(doubt.value).rpartition("owner ")[2])
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
    assert "connections" in (check_box_limits(settings) or "")

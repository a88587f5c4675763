"""DATABASE_URL: which addresses are read, and that an unreadable address is never shown."""

import pytest

from validation.errors import BadInput
from validation.ledger.engine import describe_address, open_engine, parse_database_url

SECRET = "hunter2"
UNREADABLE = (
    f"postgresql://user:{SECRET}@{SECRET}@host/db",
    f"postgresql://user:x@{SECRET}@host:5432/db",
    f"postgresql://user:@{SECRET}/x@host/db",
    f"postgresql://host:{SECRET}/db",
    f"{SECRET}://user:x@host/db",
    f"{SECRET}",
    f"host=h user=u password={SECRET}",
    f"postgresql:/user:{SECRET}@host/db",
    f"postgresql://user:x@ho st{SECRET}/db",
)


@pytest.mark.parametrize("address", UNREADABLE)
def test_unreadable_address_is_not_shown_even_in_part(address):
    """A password with an unescaped @ would otherwise be taken for a host, and printed."""
    with pytest.raises(BadInput) as refused:
        parse_database_url(address)
    assert SECRET not in f"{refused.value!r} {refused.value}"
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("address", [*UNREADABLE[1:3]])
def test_refusal_says_how_to_write_a_password(address):
    """The message names the encoding of the character that probably makes the address unreadable."""
    with pytest.raises(BadInput, match="%40 for @"):
        parse_database_url(address)


@pytest.mark.parametrize("kind", ["mysql", "sqlite"])
def test_other_database_is_named(kind):
    """The message names the kind of the database, which is no secret."""
    with pytest.raises(BadInput, match=f"of a {kind} database"):
        parse_database_url(f"{kind}://u:p@h/db")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("postgresql://u:p%40ss@db.example.org:6543/x", "db.example.org:6543/x"),
        ("postgres://u:p@127.0.0.1/x\n", "127.0.0.1:5432/x"),
        ("postgresql://u:p@[::1]:7/x", "::1:7/x"),
        ("postgresql:///x?host=/run/postgresql", "/run/postgresql:5432/x"),
    ],
)
def test_address_is_described_without_its_password(address, host):
    """The description is host, port and database."""
    engine = open_engine(address)
    assert describe_address(engine) == host
    engine.dispose()

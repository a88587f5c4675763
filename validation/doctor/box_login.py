"""The login that all boxes share, seen from the control machine: Postgres lets a login alter itself."""

import os

from sqlalchemy.exc import DBAPIError

from validation.doctor.warning import Doubt
from validation.errors import BadInput, Unreachable
from validation.ledger.engine import open_engine, parse_database_url
from validation.ledger.queries import read_altered_logins
from validation.services import open_ledger
from validation.settings import Settings

VARIABLE = "BOX_DATABASE_URL"
REFUSALS = ("authentication failed", "is not permitted to log in", "does not exist")
"""What Postgres says to a login that it does not let in. The words, for libpq keeps no code of a refused connection."""


class BoxLoginRefused(BadInput):
    """The ledger does not let boxes in with what they are told."""

    def __init__(self, login: str, evidence: object) -> None:
        self.login = login
        super().__init__(
            f"the ledger does not let boxes in as {login}: if {VARIABLE} is right, one of them has changed the "
            f"password for all; set it again as the database's owner, ALTER ROLE {login} PASSWORD '...': {evidence}"
        )


def check_box_login(settings: Settings) -> str | None:
    """What boxes are told lets them in, and none of them has changed what their sessions begin with."""
    if not (address := os.environ.get(VARIABLE)):
        return None
    login = parse_database_url(address).username or "box"
    if altered := read_altered_logins(open_ledger(settings, check_revision=False)):
        raise Doubt(
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

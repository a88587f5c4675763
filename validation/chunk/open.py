"""Open what a box works with, from its settings."""

from validation.chunk.drain import drain_requested
from validation.chunk.session import Session
from validation.corpus.store import check_store, open_store
from validation.errors import BadInput
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.models.languages import canonical
from validation.models.suite import SUITES, load_suite
from validation.settings import Settings


def require_known(settings: Settings) -> None:
    """Refuse settings that name what does not exist, before anything is opened or registered.

    Raises:
        BadInput: the suite or a language is unknown; names it.
    """
    if settings.suite not in SUITES:
        raise BadInput(f"VFLEET_SUITE is {settings.suite!r}; known suites are {', '.join(sorted(SUITES))}")
    for language in settings.languages:
        if canonical(language) is None:
            raise BadInput(f"VFLEET_LANGUAGES names {language!r}, which is no ISO 639 code that the fleet knows")


def open_session(settings: Settings) -> Session:
    """Open ledger, object stores and models, and prove that each answers before anything is claimed.

    Raises:
        Unreachable: a service does not answer; names its address.
        BadInput: a setting is wrong; names it.
    """
    require_known(settings)
    engine = open_engine(settings.database_url.get_secret_value())
    require_revision(engine)
    source, results = open_store(settings.source_url, settings), open_store(settings.results_url, settings)
    for store in (source, results):
        check_store(store)
    return Session(
        settings=settings,
        engine=engine,
        source=source,
        results=results,
        scorer=load_suite(settings.suite),
        draining=drain_requested,
    )

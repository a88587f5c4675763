"""Open what a box works with, from its settings."""

from validation.chunk.drain import drain_requested
from validation.chunk.session import Session
from validation.corpus.store import check_store, open_store
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.models.suite import load_suite
from validation.settings import Settings


def open_session(settings: Settings) -> Session:
    """Open ledger, object stores and models, and prove that each answers before anything is claimed.

    Raises:
        Unreachable: a service does not answer; names its address.
        BadInput: a setting is wrong; names it.
    """
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

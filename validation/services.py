"""What commands work with, opened as the environment says."""

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.settings import load_settings
from validation.storage.store import open_store


def open_ledger() -> Engine:
    """Open the ledger of DATABASE_URL.

    Raises:
        SchemaMismatch: it stands at another migration.
    """
    settings = load_settings()
    engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
    require_revision(engine)
    return engine


def open_results() -> ObjectStore:
    """Open the store of VFLEET_RESULTS_URL."""
    settings = load_settings()
    return open_store(settings.results_url, settings)

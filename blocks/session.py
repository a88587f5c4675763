"""The services of this box, opened once a process."""

from dataclasses import dataclass
from functools import lru_cache

from obstore.store import ObjectStore
from sqlalchemy import Engine

from blocks.control import complete_settings
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.settings import load_settings
from validation.storage.store import open_store
from validation.worker.chunk.context import ChunkContext
from validation.worker.chunk.open import open_session as open_from_settings


@lru_cache(maxsize=1)
def open_session() -> ChunkContext:
    """Open ledger, object stores and models as the environment says, and it alone: a box reads no block.

    Raises as the core's own does.
    """
    return open_from_settings(load_settings())


@dataclass(frozen=True, slots=True)
class Control:
    """What the control flows work with: the ledger and the results, no models and no source."""

    engine: Engine
    results: ObjectStore


@lru_cache(maxsize=1)
def open_control() -> Control:
    """Open ledger and results as the environment says, and blocks where it says nothing.

    Raises:
        SchemaMismatch: the ledger is of another migration.
    """
    settings = complete_settings(load_settings())
    engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
    require_revision(engine)
    return Control(engine, open_store(settings.results_url, settings))

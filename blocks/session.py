"""The services of this box, opened once a process."""

from dataclasses import dataclass
from functools import lru_cache

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.chunk.open import open_session as open_from_settings
from validation.chunk.session import Session
from validation.services import open_ledger, open_results
from validation.settings import load_settings


@lru_cache(maxsize=1)
def open_session() -> Session:
    """Open ledger, object stores and models as the environment says. Raises as the core's own does."""
    return open_from_settings(load_settings())


@dataclass(frozen=True, slots=True)
class Control:
    """What the control flows work with: the ledger and the results, no models and no source."""

    engine: Engine
    results: ObjectStore


@lru_cache(maxsize=1)
def open_control() -> Control:
    """Open ledger and results as the environment says.

    Raises:
        SchemaMismatch: the ledger is of another migration.
    """
    return Control(open_ledger(), open_results())

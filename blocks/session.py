"""The services of this box, opened once a process."""

from functools import lru_cache

from validation.chunk.open import open_session as open_from_settings
from validation.chunk.session import Session
from validation.settings import load_settings


@lru_cache(maxsize=1)
def open_session() -> Session:
    """Open ledger, object stores and models as the environment says. Raises as the core's own does."""
    return open_from_settings(load_settings())

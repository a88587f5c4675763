"""Opens the services of a box once per process: ledger, object stores and models."""

from functools import lru_cache

from validation.settings import load_settings
from validation.worker.chunk.context import ChunkContext
from validation.worker.chunk.open import open_chunk_context


@lru_cache(maxsize=1)
def open_box_services() -> ChunkContext:
    """Open ledger, object stores and models with the settings of the environment. A box reads no Prefect block.

    Raises as ``open_chunk_context``.
    """
    return open_chunk_context(load_settings())

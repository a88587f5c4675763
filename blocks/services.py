"""The services of a box or of the control plane, opened once per process."""

from dataclasses import dataclass
from functools import lru_cache, partial

from obstore.store import ObjectStore
from sqlalchemy import Engine

from blocks.control import complete_settings
from validation.control.witness import VideoReader, video_reader
from validation.services import open_ledger, open_results, open_source
from validation.settings import load_settings
from validation.worker.chunk.context import ChunkContext
from validation.worker.chunk.open import open_chunk_context


@lru_cache(maxsize=1)
def open_box_services() -> ChunkContext:
    """Open ledger, object stores and models as the environment says. A box reads no block.

    Raises as ``open_chunk_context``.
    """
    return open_chunk_context(load_settings())


@dataclass(frozen=True, slots=True)
class ControlServices:
    """The services of the control flows: the ledger, the results store, and the source store to look at videos."""

    engine: Engine
    results: ObjectStore
    read_video: VideoReader


@lru_cache(maxsize=1)
def open_control_services() -> ControlServices:
    """Open ledger and results as the environment says, and as blocks say for what the environment lacks.

    Raises as ``open_ledger`` and ``open_results``.
    """
    settings = complete_settings(load_settings())
    read_video = video_reader(partial(open_source, settings), settings.source_key)
    return ControlServices(open_ledger(settings), open_results(settings), read_video)

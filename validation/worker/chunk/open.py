"""Open the services that a worker needs to process chunks, according to its settings."""

import os
from pathlib import Path

from validation.errors import BadInput
from validation.inference.client import InferenceClient
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE
from validation.languages import normalize_language_code
from validation.models.suite import Suite, load_suite
from validation.models.suites import SUITES
from validation.services import open_box_stores, open_ledger
from validation.settings import Settings
from validation.worker.chunk.context import ChunkContext

DRAIN_FILE_VARIABLE = "VFLEET_DRAIN_FILE"
"""Environment variable of a flow run with the path of the drain file: if this file exists, the flow run drains. A
signal cannot ask for a drain, because Prefect turns a SIGTERM of the flow process into a crash of the run."""


def validate_settings(settings: Settings) -> None:
    """Check that the suite and the languages exist, before anything is opened or registered.

    Raises:
        BadInput: the suite or a language is unknown; the message contains it.
    """
    if settings.suite not in SUITES:
        raise BadInput(f"VFLEET_SUITE is {settings.suite!r}; known suites are {', '.join(sorted(SUITES))}")
    for language in settings.languages:
        if normalize_language_code(language) is None:
            raise BadInput(f"VFLEET_LANGUAGES names {language!r}, which is not a known ISO 639 code")


def open_chunk_context(settings: Settings) -> ChunkContext:
    """Open ledger, object stores and models. Check that each answers, before a chunk is claimed.

    Raises:
        Transient: a service does not answer (``Unreachable``, whose message contains the address), or no store
            credential is issued to this box yet.
        BadInput: a setting is wrong, the ledger is at another migration, or a store rejects this box.
        ServerRejectedClient: the inference server rejects this process.
    """
    validate_settings(settings)
    engine = open_ledger(settings)
    source, results = open_box_stores(settings, engine)
    return ChunkContext(
        settings=settings,
        engine=engine,
        source=source,
        results=results,
        scorer=open_scorer(settings.suite),
        draining=drain_requested,
    )


def open_scorer(suite: str) -> Suite | InferenceClient:
    """Connect to the worker's inference server; without one, load the suite into this process."""
    socket = os.environ.get(INFERENCE_SOCKET_VARIABLE)
    return InferenceClient(Path(socket)) if socket else load_suite(suite)


def drain_requested() -> bool:
    """Return whether the worker asks this flow run to finish the current videos, commit and end.

    Each call is one `stat` of the drain file. A process that was not started by a worker is never asked to drain.
    """
    path = os.environ.get(DRAIN_FILE_VARIABLE)
    return path is not None and Path(path).exists()

"""Open what a box works with, from its settings."""

import os
from pathlib import Path

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.errors import BadInput
from validation.inference.client import InferenceClient
from validation.inference.protocol import INFERENCE_SOCKET_VARIABLE
from validation.ledger.box_credentials import StoreName
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.models.languages import canonical
from validation.models.suite import SUITES, Suite, load_suite
from validation.settings import Settings
from validation.shards.naming import shard_folder
from validation.storage.store import CredentialSource, check_store, open_store
from validation.worker.chunk.context import ChunkContext
from validation.worker.chunk.credentials import CredentialCache
from validation.worker.chunk.drain import drain_requested


def validate_settings(settings: Settings) -> None:
    """Refuse settings that name what does not exist, before anything is opened or registered.

    Raises:
        BadInput: the suite or a language is unknown; names it.
    """
    if settings.suite not in SUITES:
        raise BadInput(f"VFLEET_SUITE is {settings.suite!r}; known suites are {', '.join(sorted(SUITES))}")
    for language in settings.languages:
        if canonical(language) is None:
            raise BadInput(f"VFLEET_LANGUAGES names {language!r}, which is no ISO 639 code that the fleet knows")


def open_session(settings: Settings) -> ChunkContext:
    """Open ledger, object stores and the way to the models, and prove that each answers before anything is claimed.

    Raises:
        Unreachable: a service does not answer; names its address.
        BadInput: a setting is wrong; names it.
    """
    validate_settings(settings)
    engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
    require_revision(engine)
    source, results = open_stores(settings, engine)
    return ChunkContext(
        settings=settings,
        engine=engine,
        source=source,
        results=results,
        scorer=open_scorer(settings.suite),
        draining=drain_requested,
    )


def open_stores(settings: Settings, engine: Engine) -> tuple[ObjectStore, ObjectStore]:
    """Open source and results, and prove that each answers where this worker may ask.

    Raises:
        NoCredentialIssued: this box has no keys of its own, and the ledger lends it none now.
        Unreachable, StoreRefused, BadInput: as ``check_store`` and ``open_store``.
    """
    source = open_store(settings.source_url, settings, find_credentials(settings, engine, "source"))
    results = open_store(settings.results_url, settings, find_credentials(settings, engine, "results"))
    check_store(source)
    check_store(results, shard_folder(settings.worker_id))
    return source, results


def find_credentials(settings: Settings, engine: Engine, store: StoreName) -> CredentialSource | None:
    """What the ledger lends a box for a store; None where the box has keys of its own, or is not known by a key."""
    if settings.box_key is None or settings.s3_access_key_id is not None:
        return None
    lent = CredentialCache(engine, settings.worker_id, store)
    lent()  # the store's client would hide why there is none
    return lent


def open_scorer(suite: str) -> Suite | InferenceClient:
    """Reach the worker's model host where there is one; without a worker load the suite into this process."""
    socket = os.environ.get(INFERENCE_SOCKET_VARIABLE)
    return InferenceClient(Path(socket)) if socket else load_suite(suite)

"""Open the ledger and the object stores that the settings name.

The control plane and commands open the results with the keys of the settings; a box without keys of its own uses the
credentials that the control plane issues to it.
"""

import logging
import threading
import time
from datetime import UTC, datetime

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.domain import Seconds, StoreCredential
from validation.errors import FleetError, Transient
from validation.ledger.boxes import StoreName, get_credential
from validation.ledger.engine import open_engine
from validation.ledger.migrate import require_revision
from validation.settings import Settings, load_settings
from validation.shards.naming import shard_folder
from validation.storage.store import CredentialSource, check_store, open_store

log = logging.getLogger(__name__)

CREDENTIAL_REFRESH_S: Seconds = 30.0
"""Minimum time between two reads of a credential from the ledger. The client of the store asks before every request
once the credential has five minutes left."""


class NoCredentialIssued(Transient):
    """The control plane has issued this box no credential for a store, or none that is still valid."""

    def __init__(self, worker_id: str, store: StoreName) -> None:
        self.worker_id, self.store = worker_id, store
        super().__init__(
            f"no valid credential is issued to {worker_id} for the {store} store: the fleet's next tick may issue one; "
            "if it does not, its report says why (CLOUDFLARE_API_TOKEN); or give this machine its own keys "
            "(R2_ACCESS_KEY_ID)"
        )


def open_ledger(settings: Settings | None = None, *, check_revision: bool = True) -> Engine:
    """Open the ledger of DATABASE_URL, with the box key of the settings if there is one.

    Args:
        settings: None for those of the environment.
        check_revision: whether to connect and compare migrations; without it nothing is sent.

    Raises:
        BadInput: DATABASE_URL cannot be read.
        SchemaMismatch: the ledger is at another migration than this code.
        Unreachable: with ``check_revision``, the ledger does not answer.
    """
    settings = settings or load_settings()
    engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
    if check_revision:
        require_revision(engine)
    return engine


def open_results(settings: Settings | None = None) -> ObjectStore:
    """Open the store of VFLEET_RESULTS_URL with the keys of the settings (None: of the environment)."""
    settings = settings or load_settings()
    return open_store(settings.results_url, settings)


def open_source(settings: Settings | None = None) -> ObjectStore:
    """Open the store of VFLEET_SOURCE_URL with the keys of the settings (None: of the environment)."""
    settings = settings or load_settings()
    return open_store(settings.source_url, settings)


def open_box_stores(settings: Settings, engine: Engine) -> tuple[ObjectStore, ObjectStore]:
    """Open source and results as a box does, and check that each answers where this box may read.

    Raises:
        NoCredentialIssued: this box has no keys of its own, and none is issued to it.
        Unreachable, StoreRefused, BadInput: as ``check_store`` and ``open_store``.
    """
    source = open_store(settings.source_url, settings, find_store_credentials(settings, engine, "source"))
    results = open_store(settings.results_url, settings, find_store_credentials(settings, engine, "results"))
    check_store(source)
    check_store(results, shard_folder(settings.worker_id))
    return source, results


def find_store_credentials(settings: Settings, engine: Engine, store: StoreName) -> CredentialSource | None:
    """The issued credentials of a box for a store; None if the box has keys of its own or no box key."""
    if settings.box_key is None or settings.s3_access_key_id is not None:
        return None
    credentials = CredentialCache(engine, settings.worker_id, store)
    credentials()  # the client of the store would hide the reason if there is none
    return credentials


class CredentialCache:
    """The issued credential of one store. A ledger outage has no effect while the cached credential is valid."""

    def __init__(self, engine: Engine, worker_id: str, store: StoreName) -> None:
        self._engine, self._worker_id, self._store = engine, worker_id, store
        self._cached: StoreCredential | None = None
        self._read_at: Seconds = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> StoreCredential:
        """Return the newest credential that is known.

        Raises:
            NoCredentialIssued, BoxKeyRejected, Unreachable, LedgerBusy: and the cached credential is not valid.
        """
        with self._lock:
            cached = self._cached
            if cached and is_valid(cached) and time.monotonic() - self._read_at < CREDENTIAL_REFRESH_S:
                return cached
            self._cached = self._read(cached)
            return self._cached

    def _read(self, cached: StoreCredential | None) -> StoreCredential:
        self._read_at = time.monotonic()
        try:
            issued = get_credential(self._engine, self._worker_id, self._store)
            if issued is None:
                raise NoCredentialIssued(self._worker_id, self._store)
        except FleetError as error:
            if cached is None or not is_valid(cached):
                raise
            log.warning("the old credential of the %s store is still used: %s", self._store, error)
            return cached
        return issued


def is_valid(credential: StoreCredential) -> bool:
    """Whether a credential has not expired."""
    return credential.expires_at is None or credential.expires_at > datetime.now(UTC)

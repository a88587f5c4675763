"""Open the ledger and the object stores whose addresses are in the settings.

The control plane and the commands open the object stores with the access key of the settings. A box without an access
key uses the credentials that the control plane issues to the box.
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
from validation.ledger.migrate import require_newest_migration
from validation.settings import Settings, load_settings
from validation.shards.naming import shard_folder
from validation.storage.store import CredentialSource, check_store, open_store

log = logging.getLogger(__name__)

CREDENTIAL_REFRESH_S: Seconds = 30.0
"""Minimum time between two reads of a credential from the ledger. During the last five minutes of a credential, the
client library of the store requests a credential before every request to the store."""


class NoCredentialIssued(Transient):
    """The control plane has issued no credential for a store to this box, or the issued credential has expired."""

    def __init__(self, worker_id: str, store: StoreName) -> None:
        self.worker_id, self.store = worker_id, store
        super().__init__(
            f"no valid credential is issued to {worker_id} for the {store} store: the fleet's next tick may issue one; "
            "if it does not, its report says why (CLOUDFLARE_API_TOKEN); or give this machine its own keys "
            "(R2_ACCESS_KEY_ID)"
        )


def open_ledger(settings: Settings | None = None, *, check_migration: bool = True) -> Engine:
    """Open the ledger at DATABASE_URL, with the box key of the settings if there is one.

    Args:
        settings: the settings to use; None to read them from the environment.
        check_migration: whether to connect at once and compare the migration of the ledger with this code.

    Raises:
        BadInput: DATABASE_URL is not a valid address.
        SchemaMismatch: the ledger is at another migration than this code (only with ``check_migration``).
        Unreachable, LedgerBusy, LoginRefused: the ledger does not answer, is busy or refuses the login (only with
            ``check_migration``).
    """
    settings = settings or load_settings()
    engine = open_engine(settings.database_url.get_secret_value(), settings.box_key)
    if check_migration:
        require_newest_migration(engine)
    return engine


def open_results(settings: Settings | None = None) -> ObjectStore:
    """Open the store at VFLEET_RESULTS_URL with the access key of the settings.

    Args:
        settings: the settings to use; None to read them from the environment.

    Raises:
        BadInput: as ``open_store``.
    """
    settings = settings or load_settings()
    return open_store(settings.results_url, settings)


def open_source(settings: Settings | None = None) -> ObjectStore:
    """Open the store at VFLEET_SOURCE_URL with the access key of the settings.

    Args:
        settings: the settings to use; None to read them from the environment.

    Raises:
        BadInput: as ``open_store``.
    """
    settings = settings or load_settings()
    return open_store(settings.source_url, settings)


def open_box_stores(settings: Settings, engine: Engine) -> tuple[ObjectStore, ObjectStore]:
    """Open the source store and the results store of a box, and send each store a small request.

    In the results store, the request reads in the box's own folder, because a box may read no other folder there.

    Returns:
        The source store and the results store.

    Raises:
        NoCredentialIssued: this box has no access key of its own, and no valid credential is issued to it.
        Unreachable, StoreRefused, BadInput: as ``check_store`` and ``open_store``.
    """
    source = open_store(settings.source_url, settings, find_store_credentials(settings, engine, "source"))
    results = open_store(settings.results_url, settings, find_store_credentials(settings, engine, "results"))
    check_store(source)
    check_store(results, shard_folder(settings.worker_id))
    return source, results


def find_store_credentials(settings: Settings, engine: Engine, store: StoreName) -> CredentialSource | None:
    """Return the source of a box's issued credentials for a store; None if the box has an access key or no box key.

    Raises:
        NoCredentialIssued, BoxKeyRejected, Unreachable, LedgerBusy: no valid credential can be read now.
    """
    if settings.box_key is None or settings.s3_access_key_id is not None:
        return None
    credentials = CredentialCache(engine, settings.worker_id, store)
    credentials()  # read now: the store's client library would hide the reason of a failure
    return credentials


class CredentialCache:
    """Returns the issued credential of one store from a cache, and renews the cache from the ledger.

    While the cached credential is valid, an outage of the ledger has no effect.
    """

    def __init__(self, engine: Engine, worker_id: str, store: StoreName) -> None:
        self._engine, self._worker_id, self._store = engine, worker_id, store
        self._cached: StoreCredential | None = None
        self._read_at: Seconds = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> StoreCredential:
        """Return the cached credential, or read a new one if it is ``CREDENTIAL_REFRESH_S`` old or has expired.

        Raises:
            NoCredentialIssued, BoxKeyRejected, Unreachable, LedgerBusy: the read failed, and there is no cached
                credential that is still valid.
        """
        with self._lock:
            cached = self._cached
            if cached and is_valid(cached) and time.monotonic() - self._read_at < CREDENTIAL_REFRESH_S:
                return cached
            self._cached = self._read(cached)
            return self._cached

    def _read(self, cached: StoreCredential | None) -> StoreCredential:
        """Read the credential from the ledger. If that fails, return ``cached`` while it is valid, else raise."""
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
    """Return whether a credential has not expired yet, by this machine's clock."""
    return credential.expires_at is None or credential.expires_at > datetime.now(UTC)

"""Credentials that the ledger lends this box, one for each store, and that end within hours."""

import logging
import threading
import time
from datetime import UTC, datetime

from sqlalchemy import Engine

from validation.domain import Seconds, StoreCredential
from validation.errors import FleetError, Transient
from validation.ledger.box_credentials import StoreName, get_credential

log = logging.getLogger(__name__)

ASK_AGAIN_S: Seconds = 30.0
"""The store's client asks at every request once the end is five minutes away: the ledger is not asked as often."""


class NoCredentialIssued(Transient):
    """The control plane has lent this box nothing for a store, or nothing that lasts still."""

    def __init__(self, worker_id: str, store: StoreName) -> None:
        self.worker_id, self.store = worker_id, store
        super().__init__(
            f"nothing is lent to {worker_id} for the {store} store: the fleet's next tick may do it; if not, see there "
            "why it does not (CLOUDFLARE_API_TOKEN), or give this machine keys of its own (R2_ACCESS_KEY_ID)"
        )


class CredentialCache:
    """A source of one store's credential. A ledger that is away is no matter while what is held still lasts."""

    def __init__(self, engine: Engine, worker_id: str, store: StoreName) -> None:
        self._engine, self._worker_id, self._store = engine, worker_id, store
        self._held: StoreCredential | None = None
        self._asked_at: Seconds = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> StoreCredential:
        """What is held, after asking whether there is a newer one.

        Raises:
            NoCredentialIssued: and nothing is held that lasts.
            BoxKeyRejected, Unreachable, LedgerBusy: likewise.
        """
        with self._lock:
            held = self._held
            if held is not None and time.monotonic() - self._asked_at < ASK_AGAIN_S and lasts(held):
                return held
            self._held = self._ask(held)
            return self._held

    def _ask(self, held: StoreCredential | None) -> StoreCredential:
        self._asked_at = time.monotonic()
        try:
            lent = get_credential(self._engine, self._worker_id, self._store)
            if lent is None:
                raise NoCredentialIssued(self._worker_id, self._store)
        except FleetError as error:
            if held is None or not lasts(held):
                raise
            log.warning("still working with the %s store's old credential: %s", self._store, error)
            return held
        return lent


def lasts(credential: StoreCredential) -> bool:
    """Whether a credential has not ended."""
    return credential.expires_at is None or credential.expires_at > datetime.now(UTC)

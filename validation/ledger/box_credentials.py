"""Which machine may use which worker id, and what was lent to it. One Python function a SQL function or view."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from sqlalchemy import Engine

from validation.domain import Seconds, StoreCredential
from validation.ledger.queries import read_view
from validation.ledger.rpc import call_function

StoreName: TypeAlias = Literal["source", "results"]


@dataclass(frozen=True, slots=True)
class IssuedCredential:
    """A machine with a key, and how long what it was lent still lasts."""

    worker_id: str
    label: str | None
    """Of the rented machine; None for a machine that nobody rented."""
    issued_at: datetime
    lasts_s: Seconds | None
    """None where nothing was lent."""
    is_due: bool
    """Less than half of it is left."""


def issue_box_key(engine: Engine, worker_id: str, *, label: str | None = None) -> str:
    """Give a worker id to one machine: draw a key for it. Whoever had the name before is shut out at once.

    Returns:
        The key, for the machine's environment as ``VFLEET_BOX_KEY``. The ledger keeps its hash only.
    """
    key = secrets.token_urlsafe(32)
    call_function(
        engine, "issue_box_key", worker=worker_id, label=label, key_sha256=hashlib.sha256(key.encode()).digest()
    )  # fmt: skip
    return key


def store_credential(
    engine: Engine, worker_id: str, store: StoreName, credential: StoreCredential, *, lasts_s: int
) -> None:
    """Keep a credential for a machine, in place of the one before. A worker without a key is lent nothing."""
    call_function(
        engine, "store_credential",
        worker=worker_id, store=store, access_key_id=credential.access_key_id,
        secret_access_key=credential.secret_access_key, session_token=credential.session_token, lasts_s=lasts_s,
    )  # fmt: skip


def get_credential(engine: Engine, worker_id: str, store: StoreName) -> StoreCredential | None:
    """What was lent to this machine for a store; None where nothing was, or it has ended.

    Raises:
        BoxKeyRejected: the ledger knows this worker by another key, or by none.
    """
    for row in call_function(engine, "get_credential", worker=worker_id, store=store):
        ends = datetime.now(UTC) + timedelta(seconds=row.lasts_s)
        return StoreCredential(row.access_key_id, row.secret_access_key, row.session_token, ends)
    return None


def read_issued_credentials(engine: Engine) -> Sequence[IssuedCredential]:
    """Every machine that has a key."""
    return [IssuedCredential(**row) for row in read_view(engine, "issued_credentials")]

"""The object stores and the credentials for them."""

from datetime import UTC, datetime, timedelta

from validation.doctor.check import CheckWarning
from validation.errors import BadInput
from validation.services import find_store_credentials, open_box_stores, open_ledger
from validation.settings import Settings
from validation.storage.errors import name_address
from validation.storage.store import check_store, open_store

MIN_REMAINING = timedelta(minutes=30)
"""The control machine renews credentials hours before they expire, so less than this means that it does not."""


def check_stores(settings: Settings) -> str:
    """Source and results answer this box, below the prefixes that it may use."""
    stores = open_box_stores(settings, open_ledger(settings, check_revision=False))
    return ", ".join(map(name_address, stores))


def check_source(settings: Settings) -> str:
    """The source answers the control machine: a wrong address is found before a box is rented."""
    store = open_store(settings.source_url, settings)
    check_store(store)
    return name_address(store)


def check_results(settings: Settings) -> str:
    """The results store answers the control machine, which sweeps and reads it."""
    store = open_store(settings.results_url, settings)
    check_store(store)
    return name_address(store)


def check_credentials(settings: Settings) -> str | None:
    """The store credentials do not expire soon."""
    if not settings.results_url.startswith("s3://"):
        return None
    find_credential = find_store_credentials(settings, open_ledger(settings, check_revision=False), "results")
    if find_credential is None:
        token = settings.s3_session_token
        if token is None:
            return "keys that do not expire"
        raise CheckWarning(
            "R2_SESSION_TOKEN was set by hand and is never renewed: give this box a key (VFLEET_BOX_KEY), for which "
            "the control machine issues credentials, or keys that do not expire"
        )
    return describe_expiry(find_credential().expires_at, now=datetime.now(UTC))


def describe_expiry(expires_at: datetime | None, *, now: datetime) -> str:
    """Say how long a credential is still valid.

    Raises:
        BadInput: it has expired.
        CheckWarning: it expires soon, so it is not being renewed.
    """
    if expires_at is None:
        return "keys that do not expire"
    remedy = f"at {expires_at:%H:%M} UTC: find out why the fleet's tick renews nothing (`vfleet fleet status`)"
    if expires_at <= now:
        raise BadInput(f"the credential that the ledger issued to this box expired {remedy}")
    if expires_at - now < MIN_REMAINING:
        raise CheckWarning(f"the credential that the ledger issued to this box expires {remedy}")
    return f"valid until {expires_at:%H:%M} UTC"

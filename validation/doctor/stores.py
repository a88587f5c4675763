"""The object stores, and how long we may use them."""

from datetime import UTC, datetime, timedelta
from functools import partial

from validation.doctor.check import CheckWarning
from validation.errors import BadInput
from validation.ledger.engine import open_engine
from validation.settings import Settings
from validation.storage.errors import name_address
from validation.storage.store import check_store, open_store
from validation.worker.chunk.open import find_credentials, open_stores

SHORT = timedelta(minutes=30)
"""A chunk takes minutes; the control plane renews what it lends long before."""


def check_stores(settings: Settings) -> str:
    """Source and results answer this box, each where it may ask."""
    stores = open_stores(settings, open_engine(settings.database_url.get_secret_value(), settings.box_key))
    return ", ".join(map(name_address, stores))


def check_source(settings: Settings) -> str:
    """The tars answer the control plane, before a machine is paid for that would look for them in vain."""
    store = open_store(settings.source_url, settings)
    check_store(store)
    return name_address(store)


def check_results(settings: Settings) -> str:
    """The results answer the control plane, which sweeps and reads them."""
    store = open_store(settings.results_url, settings)
    check_store(store)
    return name_address(store)


def check_credentials(settings: Settings) -> str | None:
    """What opens the stores lasts."""
    if not settings.results_url.startswith("s3://"):
        return None
    lent = find_credentials(
        settings, open_engine(settings.database_url.get_secret_value(), settings.box_key), "results"
    )
    if lent is None:
        token = settings.s3_session_token
        if token is None:
            return "keys without an end"
        raise CheckWarning(
            "R2_SESSION_TOKEN was set by hand, and nobody renews it: give this machine a box key (VFLEET_BOX_KEY), "
            "for which the control plane lends credentials, or keys without an end"
        )
    return describe_end(lent().expires_at, now=datetime.now(UTC))


def describe_end(end: datetime | None, *, now: datetime) -> str:
    """Say how long a credential lasts still.

    Raises:
        BadInput: it has ended.
        CheckWarning: it ends soon, so nobody renews it.
    """
    if end is None:
        return "keys without an end"
    say = partial("{0} at {1:%H:%M} UTC: look why the fleet's tick renews nothing (`vfleet fleet status`)".format)
    if end <= now:
        raise BadInput(say("what the ledger lends this box ended", end))
    if end - now < SHORT:
        raise CheckWarning(say("what the ledger lends this box ends", end))
    return f"lent until {end:%H:%M} UTC"

"""The object stores and the credentials for them, and the accounts of vendors: Vast.ai and Cloudflare."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from validation.corpus.budget import ReadBudget, TarLimits
from validation.corpus.tar import TarCorrupt, check_first_header
from validation.credentials.issuer import choose_scopes, open_issuer
from validation.doctor.check import CheckWarning
from validation.errors import BadInput
from validation.ledger.chunks import peek_validated, peek_videos
from validation.services import find_store_credentials, open_box_stores, open_ledger
from validation.settings import Settings
from validation.shards.naming import shard_folder
from validation.storage.errors import InvalidObjectKey, ObjectExists, ObjectMissing, describe_store_address
from validation.storage.store import check_store, delete_object, open_store, put_once, stream_object
from validation.vast.client import VastClient

TEST_CREDENTIAL_S = 900
"""Lifetime of the credential that a check creates."""


def check_vast(settings: Settings) -> str | None:
    """Vast.ai accepts the key, and returns the credit and all instances, as every tick of the fleet needs."""
    if not settings.vast_api_key.get_secret_value():
        return None
    with VastClient(settings.vast_api_key, settings.vast_url) as client:
        credit, listing = client.read_credit(), client.list_instances()
    if not listing.complete:
        raise CheckWarning(
            f"Vast.ai does not list all instances of the account, so the fleet rents nothing: {listing.why_incomplete}"
        )
    if credit <= 0:
        raise CheckWarning(f"the Vast.ai account has ${credit:.2f} of credit: top it up, or nothing is rented")
    return f"${credit:.2f} of credit, {len(listing.instances)} instances"


def check_cloudflare(settings: Settings) -> str | None:
    """Cloudflare creates the credentials that a box would get, for both buckets."""
    engine = open_ledger(settings, check_revision=False)
    with open_issuer(engine, settings) as issuer:
        if issuer is None:
            return None
        scopes = choose_scopes("doctor", source_url=settings.source_url, results_url=settings.results_url)
        for scope in scopes.values():
            issuer.client.create_credential(scope, ttl_s=TEST_CREDENTIAL_S)
    return ", ".join(f"issues {scope.permission} for {scope.bucket}" for scope in scopes.values())


MIN_REMAINING = timedelta(minutes=30)
"""The control machine renews credentials hours before they expire, so less than this means that it does not."""


def check_stores(settings: Settings) -> str:
    """Source and results answer this box, below the prefixes that it may use."""
    stores = open_box_stores(settings, open_ledger(settings, check_revision=False))
    return ", ".join(map(describe_store_address, stores))


def check_source(settings: Settings) -> str:
    """The source answers the control machine: a wrong address is found before a box is rented."""
    store = open_store(settings.source_url, settings)
    check_store(store)
    return describe_store_address(store)


def check_results(settings: Settings) -> str:
    """The results store answers the control machine, which sweeps and reads it."""
    store = open_store(settings.results_url, settings)
    check_store(store)
    return describe_store_address(store)


def check_queued_tars(settings: Settings) -> str:
    """The tar of a queued video can be read, as the work does it, up to its first member.

    One missing object may be the fault of its video, so up to three videos are tried before the address is at fault,
    and then three that were validated before.
    """
    engine = open_ledger(settings, check_revision=False)
    queued = peek_videos(engine, settings.worker_id, languages=settings.languages)
    videos = [*queued, *(peek_validated(engine, settings.worker_id) if queued else [])]
    store = open_store(settings.source_url, settings, find_store_credentials(settings, engine, "source"))
    unread: list[str] = []
    for video in videos:
        key = settings.source_key.format(video_id=video.video_id)
        try:
            with stream_object(store, key) as stream:
                check_first_header(stream, key, ReadBudget(TarLimits()))
        except (ObjectMissing, InvalidObjectKey, TarCorrupt) as error:
            unread.append(str(error))
        else:
            return f"{key} can be read"
    if not queued:
        return "no video is queued, so no tar was tried"
    sentence = f"none of {len(queued)} queued videos has its tar ({unread[0]})"
    if len(queued) == 1:
        raise CheckWarning(f"{sentence}: check this video, or VFLEET_SOURCE_URL and VFLEET_SOURCE_KEY")
    raise BadInput(f"{sentence}: check VFLEET_SOURCE_URL, VFLEET_SOURCE_KEY and R2_ENDPOINT_URL")


def check_conditional_put(settings: Settings) -> str:
    """The results store accepts an object, refuses to overwrite it, and deletes it: shards are written only once."""
    engine = open_ledger(settings, check_revision=False)
    store = open_store(settings.results_url, settings, find_store_credentials(settings, engine, "results"))
    key = f"{shard_folder(settings.worker_id)}/vfleet-preflight-{uuid4().hex}"
    try:
        put_once(store, key, b"1")
        put_once(store, key, b"2")
    except ObjectExists:
        return f"{describe_store_address(store)} refuses to overwrite an object"
    finally:
        delete_object(store, key)
    raise BadInput(
        f"{describe_store_address(store)} overwrites an existing object although asked not to (If-None-Match: *): "
        "a shard could replace another one, so use a store that supports conditional writes, as R2 and S3 do"
    )


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

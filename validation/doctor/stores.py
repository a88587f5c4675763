"""Checks of the object stores, their credentials, and the accounts at Vast.ai and Cloudflare."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from obstore.store import ObjectStore

from validation.corpus.budget import ReadBudget, TarLimits
from validation.corpus.tar import TarCorrupt, check_first_header
from validation.credentials.issuer import choose_scopes, open_issuer
from validation.doctor.check import CheckWarning
from validation.domain import Video
from validation.errors import BadInput
from validation.ledger.chunks import peek_validated, peek_videos
from validation.services import find_store_credentials, open_box_stores, open_ledger
from validation.settings import Settings
from validation.shards.naming import shard_folder
from validation.storage.errors import InvalidObjectKey, ObjectExists, ObjectMissing, describe_store_address
from validation.storage.store import check_store, delete_object, open_store, put_if_absent, stream_object
from validation.vast.client import VastClient

TEST_CREDENTIAL_S = 900
"""Lifetime in seconds of the credentials that ``check_cloudflare`` creates."""


def check_vast(settings: Settings) -> str | None:
    """Check that Vast.ai accepts the key and lists all instances, and that the account has credit, as ticks need."""
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
    """Check that Cloudflare creates the credentials that a box would get, for both buckets."""
    engine = open_ledger(settings, check_migration=False)
    with open_issuer(engine, settings) as issuer:
        if issuer is None:
            return None
        scopes = choose_scopes("doctor", source_url=settings.source_url, results_url=settings.results_url)
        for scope in scopes.values():
            issuer.client.create_credential(scope, ttl_s=TEST_CREDENTIAL_S)
    return ", ".join(f"issues {scope.permission} for {scope.bucket}" for scope in scopes.values())


MIN_REMAINING = timedelta(minutes=30)
"""Remaining lifetime below which the check warns. The control machine renews credentials hours before they expire."""


def check_stores(settings: Settings) -> str:
    """Check that this box can access the source and results stores below its permitted prefixes."""
    stores = open_box_stores(settings, open_ledger(settings, check_migration=False))
    return ", ".join(map(describe_store_address, stores))


def check_source(settings: Settings) -> str:
    """Check that the control machine can access the source store. A wrong URL is found before a box is rented."""
    store = open_store(settings.source_url, settings)
    check_store(store)
    return describe_store_address(store)


def check_results(settings: Settings) -> str:
    """Check that the control machine can access the results store, as sweeps and readers need."""
    store = open_store(settings.results_url, settings)
    check_store(store)
    return describe_store_address(store)


def check_queued_tars(settings: Settings) -> str:
    """Check that the tar of a queued video can be read up to its first member, in the way that a flow run reads it.

    One missing object may be a fault of its video. The check therefore tries up to three queued videos, and then up to
    three validated ones, before it reports a wrong address.
    """
    engine = open_ledger(settings, check_migration=False)
    queued = peek_videos(engine, settings.worker_id, languages=settings.languages)
    store = open_store(settings.source_url, settings, find_store_credentials(settings, engine, "source"))
    if not queued:
        return "no video is queued, so no tar was tried"
    readable, error = _find_readable_tar(store, settings, queued)
    if readable is None:
        readable, _ = _find_readable_tar(store, settings, peek_validated(engine, settings.worker_id))
    if readable is not None:
        return f"{readable} can be read"
    sentence = f"none of {len(queued)} queued videos has its tar ({error})"
    if len(queued) == 1:
        raise CheckWarning(f"{sentence}: check this video, or VFLEET_SOURCE_URL and VFLEET_SOURCE_KEY")
    raise BadInput(f"{sentence}: check VFLEET_SOURCE_URL, VFLEET_SOURCE_KEY and R2_ENDPOINT_URL")


def _find_readable_tar(store: ObjectStore, settings: Settings, videos: Sequence[Video]) -> tuple[str | None, str]:
    """Try the tars of the videos in order, up to the first whose first header can be read.

    Returns:
        The key of this tar, None if no tar can be read; and the message of the first error, empty if there was none.
    """
    error = ""
    for video in videos:
        key = settings.source_key.format(video_id=video.video_id)
        try:
            with stream_object(store, key) as stream:
                check_first_header(stream, key, ReadBudget(TarLimits()))
        except (ObjectMissing, InvalidObjectKey, TarCorrupt) as unread:
            error = error or str(unread)
        else:
            return key, error
    return None, error


def check_conditional_put(settings: Settings) -> str:
    """Check that the results store accepts an object, refuses to overwrite it, and deletes it. Shards need this."""
    engine = open_ledger(settings, check_migration=False)
    store = open_store(settings.results_url, settings, find_store_credentials(settings, engine, "results"))
    key = f"{shard_folder(settings.worker_id)}/vfleet-preflight-{uuid4().hex}"
    try:
        put_if_absent(store, key, b"1")
        put_if_absent(store, key, b"2")
    except ObjectExists:
        return f"{describe_store_address(store)} refuses to overwrite an object"
    finally:
        delete_object(store, key)
    raise BadInput(
        f"{describe_store_address(store)} overwrites an existing object although asked not to (If-None-Match: *): "
        "a shard could replace another one, so use a store that supports conditional writes, as R2 and S3 do"
    )


def check_credentials(settings: Settings) -> str | None:
    """Check that the credentials for a results store on S3 do not expire within `MIN_REMAINING`.

    A session token that was set by hand is a warning, because it is never renewed.
    """
    if not settings.results_url.startswith("s3://"):
        return None
    find_credential = find_store_credentials(settings, open_ledger(settings, check_migration=False), "results")
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
    """Return a phrase that states until when a credential is valid.

    Raises:
        BadInput: the credential has expired.
        CheckWarning: the credential expires within ``MIN_REMAINING``, so it is apparently not renewed.
    """
    if expires_at is None:
        return "keys that do not expire"
    remedy = f"at {expires_at:%H:%M} UTC: find out why the fleet's tick renews nothing (`vfleet fleet status`)"
    if expires_at <= now:
        raise BadInput(f"the credential that the ledger issued to this box expired {remedy}")
    if expires_at - now < MIN_REMAINING:
        raise CheckWarning(f"the credential that the ledger issued to this box expires {remedy}")
    return f"valid until {expires_at:%H:%M} UTC"

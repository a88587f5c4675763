"""Opens the ledger and the results store for the control flows.

Settings come from the environment. If the environment has no database URL, the URL is read from a Prefect block. If the
environment has none of ``BUCKET_SETTINGS``, the results bucket is read from a block as a whole.
"""

from dataclasses import dataclass
from functools import lru_cache

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.services import open_ledger, open_results
from validation.settings import Settings, load_settings

BUCKET_SETTINGS = frozenset({"results_url", "s3_access_key_id", "s3_secret_access_key"})
"""If the environment has one of these settings, no part of the results bucket is read from a block.

The R2 endpoint is not in the set, because an endpoint does not identify a bucket."""


@dataclass(frozen=True, slots=True)
class ControlServices:
    """The services of the control flows: the ledger and the results store."""

    engine: Engine
    results: ObjectStore


@lru_cache(maxsize=1)
def open_control_services() -> ControlServices:
    """Open the ledger and the results store. ``complete_settings`` describes which settings come from blocks.

    Raises as ``open_ledger`` and ``open_results``.
    """
    settings = complete_settings(load_settings())
    return ControlServices(open_ledger(settings), open_results(settings))


def complete_settings(settings: Settings) -> Settings:
    """Add the database URL and the results bucket from Prefect blocks, each only if the environment does not set it.

    Settings of two buckets are never mixed: if VFLEET_RESULTS_URL or an access key is set, the block is not read. The
    modules of the blocks are imported only when a block is read: the imports cost more CPU than the rest of a control
    flow.
    """
    if not settings.database_url.get_secret_value():
        settings = _add_database(settings)
    if not BUCKET_SETTINGS & settings.model_fields_set:
        settings = _add_bucket(settings)
    return settings


def _add_database(settings: Settings) -> Settings:
    """Return the settings with the database URL of the block `ledger`; unchanged if there is no such block."""
    from blocks.types import DATABASE_BLOCK, ValidationDatabase, find_block  # noqa: PLC0415 - see complete_settings

    database = find_block(ValidationDatabase, DATABASE_BLOCK)
    return settings.model_copy(update={"database_url": database.url}) if database else settings


def _add_bucket(settings: Settings) -> Settings:
    """Return the settings with the bucket of the block `validation-results`; unchanged if there is no such block."""
    from prefect_aws import S3Bucket  # noqa: PLC0415 - see complete_settings

    from blocks.bucket import RESULTS, apply_bucket_block  # noqa: PLC0415
    from blocks.types import find_block  # noqa: PLC0415

    bucket = find_block(S3Bucket, RESULTS)
    return apply_bucket_block(bucket, settings) if bucket else settings

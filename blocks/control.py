"""The services of the control plane: its environment, and blocks for what the environment lacks."""

from dataclasses import dataclass
from functools import lru_cache

from obstore.store import ObjectStore
from sqlalchemy import Engine

from validation.services import open_ledger, open_results
from validation.settings import Settings, load_settings

BUCKET_SETTINGS = frozenset({"results_url", "s3_access_key_id", "s3_secret_access_key"})
"""If the environment has one of these, the results bucket is the environment's. The R2 endpoint names no bucket."""


@dataclass(frozen=True, slots=True)
class ControlServices:
    """The services of the control flows: the ledger and the results store."""

    engine: Engine
    results: ObjectStore


@lru_cache(maxsize=1)
def open_control_services() -> ControlServices:
    """Open ledger and results as the environment says, and as blocks say for what the environment lacks.

    Raises as ``open_ledger`` and ``open_results``.
    """
    settings = complete_settings(load_settings())
    return ControlServices(open_ledger(settings), open_results(settings))


def complete_settings(settings: Settings) -> Settings:
    """Take the database and the results bucket from blocks, each only if the environment has no part of it.

    Two buckets are never mixed: with VFLEET_RESULTS_URL or a key set, the whole bucket is the environment's. The
    modules of the blocks are imported only when a block is read: they cost more CPU than the rest of a control flow.
    """
    if not settings.database_url.get_secret_value():
        settings = _read_database(settings)
    if not BUCKET_SETTINGS & settings.model_fields_set:
        settings = _read_bucket(settings)
    return settings


def _read_database(settings: Settings) -> Settings:
    from blocks.types import DATABASE_BLOCK, ValidationDatabase, find_block  # noqa: PLC0415 - see complete_settings

    database = find_block(ValidationDatabase, DATABASE_BLOCK)
    return settings.model_copy(update={"database_url": database.url}) if database else settings


def _read_bucket(settings: Settings) -> Settings:
    from prefect_aws import S3Bucket  # noqa: PLC0415 - see complete_settings

    from blocks.bucket import RESULTS, read_bucket  # noqa: PLC0415
    from blocks.types import find_block  # noqa: PLC0415

    bucket = find_block(S3Bucket, RESULTS)
    return read_bucket(bucket, settings) if bucket else settings

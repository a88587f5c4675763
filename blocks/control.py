"""The settings of the control plane: its environment, and blocks for what the environment lacks."""

from prefect_aws import S3Bucket

from blocks.database import BLOCK, ValidationDatabase
from blocks.documents import RESULTS, find_block, read_bucket
from validation.settings import Settings

BUCKET_SETTINGS = frozenset({"results_url", "s3_access_key_id", "s3_secret_access_key"})
"""If the environment has one of these, the results bucket is the environment's. The R2 endpoint names no bucket."""


def complete_settings(settings: Settings) -> Settings:
    """Take the database and the results bucket from blocks, each only if the environment has no part of it.

    Two buckets are never mixed: with VFLEET_RESULTS_URL or a key set, the whole bucket is the environment's.
    """
    if not settings.database_url.get_secret_value() and (database := find_block(ValidationDatabase, BLOCK)):
        settings = settings.model_copy(update={"database_url": database.url})
    if not BUCKET_SETTINGS & settings.model_fields_set and (bucket := find_block(S3Bucket, RESULTS)):
        settings = read_bucket(bucket, settings)
    return settings

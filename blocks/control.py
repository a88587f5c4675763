"""The control plane's settings: its environment, and blocks for what that does not say."""

from prefect_aws import S3Bucket

from blocks.database import BLOCK, ValidationDatabase
from blocks.documents import RESULTS, find_block, read_bucket
from validation.settings import Settings

OF_A_BUCKET = frozenset({"results_url", "s3_access_key_id", "s3_secret_access_key"})
"""Each of these in the environment says that the results' bucket is the environment's. Where R2 is, its address, says
nothing of whose bucket."""


def complete_settings(settings: Settings) -> Settings:
    """Fill in the database and the results' bucket from blocks, each only where the environment has nothing of it.

    Half of a bucket is never mixed with half of another: with VFLEET_RESULTS_URL or a key set, the whole bucket is the
    environment's.
    """
    if not settings.database_url.get_secret_value() and (database := find_block(ValidationDatabase, BLOCK)):
        settings = settings.model_copy(update={"database_url": database.url})
    if not OF_A_BUCKET & settings.model_fields_set and (bucket := find_block(S3Bucket, RESULTS)):
        settings = read_bucket(bucket, settings)
    return settings

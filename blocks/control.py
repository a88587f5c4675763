"""The control plane's settings: its environment, and blocks for what that does not say."""

from prefect_aws import S3Bucket

from blocks.database import BLOCK, ValidationDatabase
from blocks.documents import RESULTS, find_block, read_bucket
from validation.settings import Settings


def complete_settings(settings: Settings) -> Settings:
    """Fill in the database and the results' bucket from blocks, each only where the environment has nothing of it.

    Half of a bucket is never mixed with half of another: with R2_ACCESS_KEY_ID set, the whole bucket is the
    environment's.
    """
    if not settings.database_url.get_secret_value() and (database := find_block(ValidationDatabase, BLOCK)):
        settings = settings.model_copy(update={"database_url": database.url})
    in_s3 = settings.results_url.startswith("s3://")
    if in_s3 and settings.s3_access_key_id is None and (bucket := find_block(S3Bucket, RESULTS)):
        settings = read_bucket(bucket, settings)
    return settings

"""The Prefect block of the results bucket.

The import of this module takes half a second of CPU, so other modules import it only when they read the block.
"""

from typing import Any

from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket

from validation.errors import BadInput
from validation.settings import Settings

RESULTS = "validation-results"
"""The name of the block document of the results bucket."""
# Options of boto3's client with which R2 accepts its requests.
R2_CLIENT: dict[str, Any] = {
    "request_checksum_calculation": "when_required",  # R2 refuses some checksums that boto3 sends by default
    "response_checksum_validation": "when_required",
    "retries": {"mode": "adaptive", "max_attempts": 8},
    "s3": {"addressing_style": "path"},
}


def build_bucket(settings: Settings) -> S3Bucket:
    """Build a prefect-aws block of the environment's results bucket, with client options that R2 supports.

    Raises:
        BadInput: the results are not in an S3-compatible store, or the access keys are missing.
    """
    scheme, _, place = settings.results_url.partition("://")
    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if scheme != "s3" or key is None or secret is None:
        raise BadInput("a bucket block needs VFLEET_RESULTS_URL=s3://bucket, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY")
    bucket, _, folder = place.partition("/")
    credentials = AwsCredentials(
        aws_access_key_id=key.get_secret_value(),
        aws_secret_access_key=secret,
        region_name=settings.s3_region,
        aws_client_parameters=AwsClientParameters(endpoint_url=settings.s3_endpoint_url, config=R2_CLIENT),
    )
    return S3Bucket(bucket_name=bucket, bucket_folder=folder, credentials=credentials)


def apply_bucket_block(bucket: S3Bucket, settings: Settings) -> Settings:
    """Return a copy of the settings in which the block's bucket, with its address and keys, is the results bucket.

    Raises:
        BadInput: the block has no AWS credentials with an access key and a secret.
    """
    found = bucket.credentials
    place = "/".join(part.strip("/") for part in (bucket.bucket_name, bucket.bucket_folder) if part)
    secret = found.aws_secret_access_key if isinstance(found, AwsCredentials) else None
    if not isinstance(found, AwsCredentials) or found.aws_access_key_id is None or secret is None:
        raise BadInput(f"block {RESULTS} has no AWS credentials with keys: `python -m blocks save` makes one that does")
    return settings.model_copy(
        update={
            "results_url": f"s3://{place}",
            "s3_endpoint_url": found.aws_client_parameters.endpoint_url,
            "s3_access_key_id": type(secret)(found.aws_access_key_id),
            "s3_secret_access_key": secret,
            "s3_region": found.region_name or settings.s3_region,
        }
    )

"""No variable of another program reaches the object store client."""

import os
import re
from pathlib import Path
from uuid import uuid4

import obstore
import pytest

from tests.support.sample_shards import PROVENANCE, SCHEMA, make_video
from tests.support.scripted_http_server import respond, serve
from tests.support.store_helpers import ACCESS_KEY, NOWHERE, SECRET_KEY, TOKEN, open_s3, s3_settings
from validation.errors import FleetError
from validation.shards.reader import scan_shards
from validation.shards.writer import encode_shard
from validation.storage.store import (
    check_store,
    open_store,
    put_if_absent,
)


def test_credentials_come_from_the_settings_only(monkeypatch):
    """Variables of the environment for Amazon's own tools are not sent to this store."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "strangers-token")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "strangers-key")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with serve(respond(404, b"<Error><Code>NoSuchKey</Code></Error>")) as script:
        check_store(open_s3(script.url))
    (request,) = script.requests
    assert f"Credential={ACCESS_KEY}/" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == TOKEN


FOREIGN_VARIABLES = {
    **dict.fromkeys(
        [
            *(
                "AWS_ENDPOINT",
                "AWS_ENDPOINT_URL",
                "AWS_ENDPOINT_URL_S3",
                "AWS_ENDPOINT_URL_STS",
                "AWS_METADATA_ENDPOINT",
                "AWS_STS_ENDPOINT",
            ),
            *("AWS_PROXY_URL", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ],
        NOWHERE,
    ),
    **dict.fromkeys(
        [
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_TOKEN", "AWS_BUCKET"),
            *("AWS_BUCKET_NAME", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"),
            *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_PROFILE"),
            *("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_SSE_KMS_KEY_ID", "AWS_SSE_CUSTOMER_KEY_BASE64"),
            *("AWS_DEFAULT_CONTENT_TYPE", "AWS_USER_AGENT", "AWS_PROXY_EXCLUDES", "AWS_CONFIG_FILE"),
            *("AWS_PROXY_CA_CERTIFICATE", "AWS_POOL_MAX_IDLE_PER_HOST"),
        ],
        "strangers",
    ),
    **dict.fromkeys(
        [
            *("AWS_SKIP_SIGNATURE", "AWS_UNSIGNED_PAYLOAD", "AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "AWS_S3_EXPRESS"),
            *("AWS_REQUEST_PAYER", "AWS_IMDSV1_FALLBACK", "AWS_DISABLE_TAGGING", "AWS_SSE_BUCKET_KEY_ENABLED"),
            *("AWS_ALLOW_INVALID_CERTIFICATES", "AWS_HTTP1_ONLY", "AWS_HTTP2_ONLY", "AWS_RANDOMIZE_ADDRESSES"),
            *("AWS_HTTP2_KEEP_ALIVE_WHILE_IDLE", "AWS_DISABLE_BULK_DELETE"),
        ],
        "true",
    ),
    "AWS_ALLOW_HTTP": "false",
    "AWS_CHECKSUM_ALGORITHM": "sha256",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_COPY_IF_NOT_EXISTS": "multipart",
    "AWS_SERVER_SIDE_ENCRYPTION": "sse-c",
    "AWS_CONNECT_TIMEOUT": "1 ns",
    "AWS_TIMEOUT": "1 ns",
    "AWS_READ_TIMEOUT": "1 ns",
    "AWS_POOL_IDLE_TIMEOUT": "1 ns",
    "AWS_HTTP2_KEEP_ALIVE_INTERVAL": "1 ns",
    "AWS_HTTP2_KEEP_ALIVE_TIMEOUT": "1 ns",
}
"""Every variable that the client library reads (its keys, with the prefix ``AWS_``), with a harmful value."""


NOT_OF_THE_ENVIRONMENT = {"AWS_DEFAULT_HEADERS", "AWS_ROOT_CERTIFICATE"}
"""Keys that are only arguments of the Python class."""


def shape_of(request) -> tuple[object, ...]:
    """Return what matters of a request: where it goes and every header but those of the time."""
    signature = re.sub(r"/\d{8}/|Signature=\w+", "", request.headers["authorization"] or "")
    varying = {"x-amz-date", "authorization", "host"}
    headers = {name.lower(): value for name, value in request.headers.items() if name.lower() not in varying}
    return request.command, request.path, signature, headers


@pytest.mark.parametrize("variable", ["all", *FOREIGN_VARIABLES])
def test_no_foreign_variable_reaches_the_client(monkeypatch, variable):
    """Requests go to the configured endpoint, are signed by the configured key, and look as without the variable."""

    def requests() -> list[tuple[object, ...]]:
        with serve(respond(404, b"<Error><Code>NoSuchKey</Code></Error>")) as script:
            store = open_s3(script.url)
            check_store(store)
            with pytest.raises(FleetError):
                put_if_absent(store, "a", b"1")
        return [shape_of(request) for request in script.requests]

    expected = requests()
    chosen = FOREIGN_VARIABLES if variable == "all" else {variable: FOREIGN_VARIABLES[variable]}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    assert requests() == expected
    assert f"Credential={ACCESS_KEY}" in expected[0][2]
    assert {name: os.environ[name] for name in chosen} == chosen


def test_the_list_of_foreign_variables_is_complete():
    """Each key of the client library's own types is tested, so that a key which a later version adds is noticed."""
    stubs = Path(obstore.__file__).parent / "_store"
    settings_of_client = (stubs / "_client.pyi").read_text().partition("class ClientConfig")[2]
    settings_of_s3 = (stubs / "_aws.pyi").read_text().partition("class S3Config")[2].partition("class S3Credential")[0]
    keys = re.findall(r"^    ([a-z]\w+): ", settings_of_client + settings_of_s3, re.MULTILINE)
    variables = {f"AWS_{key.removeprefix('aws_')}".upper() for key in keys} - NOT_OF_THE_ENVIRONMENT
    assert len(variables) > 40
    assert sorted(variables - FOREIGN_VARIABLES.keys()) == []


def test_polars_reads_no_foreign_variable(object_store, monkeypatch):
    """polars has a client of its own, which reads the same variables."""
    bucket = f"b-{uuid4().hex}"
    object_store.create_bucket(bucket)
    settings = s3_settings(object_store.endpoint_url)
    put_if_absent(
        open_store(f"s3://{bucket}", settings), "a.parquet", encode_shard(make_video("v", 2), SCHEMA, PROVENANCE)
    )
    for name, value in FOREIGN_VARIABLES.items():
        monkeypatch.setenv(name, value)
    options = {
        "aws_endpoint_url": object_store.endpoint_url,
        "aws_region": "auto",
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "aws_allow_http": "true",
    }
    assert len(scan_shards([f"s3://{bucket}/a.parquet"], options).collect()) == 2

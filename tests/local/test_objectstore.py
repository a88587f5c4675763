"""The embedded object store has the features of R2 that the fleet uses."""

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store

from validation.local.objectstore import EmbeddedObjectStore
from validation.local.service import LocalServiceFailed


def open_bucket(server, bucket):
    environment = server.client_environment()
    return S3Store(
        bucket,
        endpoint=environment["R2_ENDPOINT_URL"],
        access_key_id=environment["R2_ACCESS_KEY_ID"],
        secret_access_key=environment["R2_SECRET_ACCESS_KEY"],
        region="auto",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


def test_object_round_trips(object_store):
    """An object is read back whole and in ranges, also one large enough to be kept on disk."""
    object_store.create_bucket("round-trip")
    store, body = open_bucket(object_store, "round-trip"), bytes(range(256)) * 4096
    obstore.put(store, "a/b", body)
    assert bytes(obstore.get(store, "a/b").bytes()) == body
    assert bytes(obstore.get_range(store, "a/b", start=1000, end=1010)) == body[1000:1010]
    assert [entry["path"] for page in obstore.list(store) for entry in page] == ["a/b"]


def test_object_is_created_once(object_store):
    """A second conditional write is refused, and the first bytes stay."""
    object_store.create_bucket("write-once")
    store = open_bucket(object_store, "write-once")
    obstore.put(store, "shard", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "shard", b"second", mode="create")
    assert bytes(obstore.get(store, "shard").bytes()) == b"first"


def test_killed_store_restarts_with_empty_buckets(open_folder):
    """Clients find the buckets at the same address, without objects."""
    with EmbeddedObjectStore(open_folder / "objects", buckets=["first"]) as server:
        server.create_bucket("second")
        obstore.put(open_bucket(server, "second"), "a", b"1")
        server.kill()
        server.start()
        for bucket in ("first", "second"):
            assert obstore.list(open_bucket(server, bucket)).collect() == []


def test_refused_bucket_is_an_error(object_store):
    """The error names the server and its response."""
    with pytest.raises(LocalServiceFailed, match=r"Object store: PUT /X: status 400"):
        object_store.create_bucket("X")

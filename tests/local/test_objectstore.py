"""The embedded object store does what the fleet asks of R2."""

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


def test_an_object_comes_back_as_it_was_put(object_store):
    """Also one large enough to be kept on disk, and a range of it."""
    object_store.create_bucket("round-trip")
    store, body = open_bucket(object_store, "round-trip"), bytes(range(256)) * 4096
    obstore.put(store, "a/b", body)
    assert bytes(obstore.get(store, "a/b").bytes()) == body
    assert bytes(obstore.get_range(store, "a/b", start=1000, end=1010)) == body[1000:1010]
    assert [entry["path"] for page in obstore.list(store) for entry in page] == ["a/b"]


def test_an_object_is_created_once(object_store):
    """The second writer of a shard is refused, and the first one's bytes stay."""
    object_store.create_bucket("write-once")
    store = open_bucket(object_store, "write-once")
    obstore.put(store, "shard", b"first", mode="create")
    with pytest.raises(AlreadyExistsError):
        obstore.put(store, "shard", b"second", mode="create")
    assert bytes(obstore.get(store, "shard").bytes()) == b"first"


def test_a_killed_store_comes_back_empty_with_its_buckets(open_folder):
    """Clients find the buckets at the same address; the objects are gone, as the class says."""
    with EmbeddedObjectStore(open_folder / "objects", buckets=["first"]) as server:
        server.create_bucket("second")
        obstore.put(open_bucket(server, "second"), "a", b"1")
        server.kill()
        server.start()
        for bucket in ("first", "second"):
            assert obstore.list(open_bucket(server, bucket)).collect() == []


def test_a_bucket_that_cannot_be_made_is_an_error(object_store):
    """The sentence names the server and its answer."""
    with pytest.raises(LocalServiceFailed, match=r"Object store: PUT /X: status 400"):
        object_store.create_bucket("X")

"""Each function of the object store succeeds or raises one of our errors: missing, refused or unreachable."""

import re
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from obstore.store import ObjectStore

from tests.support.scripted_http_server import respond, send, serve
from tests.support.store_helpers import ACCESS_KEY, NOWHERE, SECRET_KEY, TOKEN, open_s3, s3_settings
from validation.errors import BadInput, FleetError, Permanent, Unreachable
from validation.settings import Settings
from validation.storage import store as store_module
from validation.storage.errors import InvalidObjectKey, ObjectExists, ObjectMissing, StoreRefused
from validation.storage.store import (
    check_store,
    delete_object,
    get_bytes,
    list_keys,
    open_store,
    put_if_absent,
    stream_object,
)


@pytest.fixture
def bucket(object_store) -> str:
    """The address of an empty bucket with a prefix."""
    name = f"b-{uuid4().hex}"
    object_store.create_bucket(name)
    return f"s3://{name}/some/prefix"


@pytest.fixture(params=["s3", "file", "memory"])
def store(request, tmp_path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "s3":
        endpoint = request.getfixturevalue("object_store").endpoint_url
        return open_store(request.getfixturevalue("bucket"), s3_settings(endpoint))
    url = f"file://{tmp_path}" if request.param == "file" else "memory://"
    return open_store(url, Settings())


def test_get_returns_what_put_wrote(store):
    """Every key that a video may have, and every size."""
    for key, payload in {"a b/ü%+#.tar": b"x", "empty": b"", "large": bytes(range(256)) * 20_000}.items():
        with pytest.raises(ObjectMissing):
            get_bytes(store, key)
        put_if_absent(store, key, payload)
        assert get_bytes(store, key) == payload


@pytest.mark.parametrize("max_whole_bytes", [0, 1 << 30])
def test_a_stream_reads_the_same_bytes_in_any_piece_size(store, max_whole_bytes):
    """Small and large reads return the object from front to back, downloaded as a stream or as one block."""
    payload = bytes(range(256)) * 9000
    put_if_absent(store, "key", payload)
    with stream_object(store, "key", max_whole_bytes=max_whole_bytes) as stream:
        assert stream.size_bytes == len(payload)
        pieces = [stream.read(size) for size in (1, 511, 2 << 20)]
        assert b"".join(pieces) + stream.readall() == payload
        assert stream.read(1) == b""


def test_one_of_sixteen_concurrent_writers_succeeds(store):
    """The others get ``ObjectExists``, and the stored object is the first writer's."""
    barrier = threading.Barrier(16)

    def race(writer: int) -> bool:
        barrier.wait()
        try:
            put_if_absent(store, "shard", b"%d" % writer)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(race, range(16)))
    assert won.count(True) == 1
    assert get_bytes(store, "shard") == b"%d" % won.index(True)


def test_a_missing_object_is_permanent_and_named(store):
    """The error says which object and where; trying again cannot help."""
    with pytest.raises(ObjectMissing, match=r"object 'no\.tar' does not exist in (s3|file|memory)://") as caught:
        stream_object(store, "no.tar")
    assert isinstance(caught.value, Permanent)
    assert "\n" not in str(caught.value)


def test_delete_is_idempotent(store):
    """Deleting an object that does not exist is no error."""
    put_if_absent(store, "a", b"1")
    delete_object(store, "a")
    delete_object(store, "a")
    with pytest.raises(ObjectMissing):
        get_bytes(store, "a")


def test_keys_are_listed_by_folder(store):
    """A prefix is a folder: ``shards2/c`` is not in ``shards``."""
    for key in ("shards/a", "shards/w/b", "shards2/c"):
        put_if_absent(store, key, b"")
    assert sorted(list_keys(store, "shards")) == ["shards/a", "shards/w/b"]
    assert sorted(list_keys(store)) == ["shards/a", "shards/w/b", "shards2/c"]


@pytest.mark.parametrize("key", ["../outside", "a//b"])
def test_an_invalid_key_is_a_permanent_error(store, key):
    """A video id that makes no valid key fails this video and not its chunk."""
    with pytest.raises(Permanent):
        stream_object(store, key)


def test_a_prefix_is_part_of_every_key(object_store, bucket):
    """An object that is written below a prefix has its full key in the bucket."""
    settings = s3_settings(object_store.endpoint_url)
    put_if_absent(open_store(bucket, settings), "a", b"1")
    assert list(list_keys(open_store(bucket.removesuffix("/some/prefix"), settings))) == ["some/prefix/a"]


def test_check_store_passes_for_an_empty_store(store):
    """A missing preflight object is no error."""
    check_store(store)


CALLS = [
    pytest.param(check_store, id="check"),
    pytest.param(lambda store: stream_object(store, "a"), id="stream"),
    pytest.param(lambda store: get_bytes(store, "a"), id="get"),
    pytest.param(lambda store: put_if_absent(store, "a", b"1"), id="put"),
    pytest.param(lambda store: delete_object(store, "a"), id="delete"),
    pytest.param(lambda store: list(list_keys(store)), id="list"),
]


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_bucket_is_bad_input_and_no_missing_object(object_store, call):
    """A typo in the settings must not fail every video as missing, whichever function is called."""
    with pytest.raises(StoreRefused, match=r"s3://no-such-bucket at http://.*NoSuchBucket.*VFLEET_SOURCE_URL"):
        call(open_s3(object_store.endpoint_url, "no-such-bucket"))


@pytest.mark.parametrize("call", CALLS)
def test_a_404_of_a_server_that_is_no_object_store_is_a_refusal(call):
    """Behind a wrong endpoint every key is a 404, and no video may fail for it."""
    with serve(respond(404, b"<html>not found")) as script, pytest.raises(StoreRefused, match="R2_ENDPOINT_URL"):
        call(open_s3(script.url))


@pytest.mark.parametrize("call", CALLS)
def test_a_refused_connection_is_transient_and_names_the_setting(call):
    """The message names the address, the cause and the setting."""
    expected = r"object store at s3://bucket at http://127\.0\.0\.1:9 is unreachable: .*R2_ENDPOINT_URL.*refused"
    with pytest.raises(Unreachable, match=expected):
        call(open_s3(NOWHERE))


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("call", CALLS)
def test_a_refused_credential_is_never_printed(call, status):
    """S3 repeats access keys in its responses. No message, note or traceback of ours holds one."""
    body = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>".encode()
    with serve(respond(status, body)) as script, pytest.raises(StoreRefused, match="R2_ACCESS_KEY_ID") as caught:
        call(open_s3(script.url))
    printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert not re.search(f"{ACCESS_KEY}|{SECRET_KEY}|{TOKEN}", printed)


def test_printing_a_store_shows_no_credentials():
    """Neither the store, its configuration nor its credential provider prints them."""
    store = open_s3(NOWHERE)
    shown = f"{store!r} {store.config} {store.credential_provider!r}"
    assert not re.search(f"{ACCESS_KEY}|{SECRET_KEY}|{TOKEN}", shown)


@pytest.mark.parametrize(
    "answer",
    [respond(503), respond(403), respond(404), respond(200, b"x", content_length=9), lambda request: None],
    ids=["busy", "forbidden", "missing", "short", "silent"],
)
def test_an_address_is_printed_without_its_password(answer):
    """An endpoint may hold a user and a password, for a proxy that requires them. No error prints them."""
    with serve(answer) as script, pytest.raises(FleetError) as caught:
        get_bytes(open_s3(script.url.replace("//", "//user:hunter2@")), "a")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_store_is_tried_three_times(status):
    """The client's retries bridge a short failure; an outage is left to the caller's retries."""
    body = b"<Error><Code>SlowDown</Code></Error>"
    with serve(respond(status, body)) as script, pytest.raises(Unreachable, match=f"{status} SlowDown"):
        stream_object(open_s3(script.url), "a")
    assert len(script.requests) == 3


def test_a_write_conflict_is_transient():
    """After a 409 it is unknown which writer succeeded, so the write is retried."""
    body = b"<Error><Code>ConditionalRequestConflict</Code></Error>"
    with serve(respond(409, body)) as script, pytest.raises(Unreachable, match=r"409 ConditionalRequestConflict"):
        put_if_absent(open_s3(script.url), "a", b"1")


def read_as_stream(store, key: str) -> bytes:
    with stream_object(store, key) as stream:
        return stream.readall()


@pytest.mark.parametrize("read", [get_bytes, read_as_stream])
def test_a_broken_download_resumes_where_it_broke(read):
    """The second request is for the rest only, and the reader sees one whole object."""
    payload = bytes(range(256)) * 1000

    def answer(request) -> None:
        asked = request.headers["range"]
        if asked is None:
            send(request, 200, payload[:100_000], content_length=len(payload))
            return
        first = int(re.match(r"bytes=(\d+)-", asked)[1])
        send(request, 206, payload[first:], content_range=f"bytes {first}-{len(payload) - 1}/{len(payload)}")

    with serve(answer) as script:
        assert read(open_s3(script.url), "a") == payload
    assert len(script.requests) == 2


@pytest.mark.parametrize("read", [get_bytes, read_as_stream])
def test_an_object_that_changed_during_the_download_is_unreachable(read):
    """Half of the old object and half of the new one are not joined."""

    def answer(request) -> None:
        if request.headers["range"] is None:
            send(request, 200, b"x" * 1000, content_length=2000)
        else:
            send(request, 206, b"y" * 500, content_range="bytes 1000-1499/1500")

    with serve(answer) as script, pytest.raises(Unreachable):
        read(open_s3(script.url), "a")


@pytest.mark.parametrize("read", [get_bytes, read_as_stream])
def test_a_short_download_is_unreachable(read):
    """The bytes that arrived before the connection broke are not taken for the object."""
    with serve(respond(200, b"x" * 1000, content_length=2000)) as script, pytest.raises(Unreachable):
        read(open_s3(script.url), "a")


def test_a_store_that_sends_nothing_times_out(monkeypatch):
    """An open connection alone does not keep a request alive."""
    monkeypatch.setattr(store_module, "_STALL_TIMEOUT_S", 0.1)
    with serve(lambda _: script.over.wait()) as script, pytest.raises(Unreachable, match="failed: Timeout"):
        get_bytes(open_s3(script.url), "a")


def test_a_missing_folder_is_unreachable_and_not_empty(tmp_path):
    """An unmounted disk is an outage; its videos are not missing."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    store = open_store(f"file://{folder}", Settings())
    folder.rmdir()
    with pytest.raises(Unreachable, match="the folder is gone"):
        stream_object(store, "a.tar")
    with pytest.raises(StoreRefused, match="no such folder"):
        check_store(store)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://bucket", "write s3://bucket/prefix, file:///folder or memory://"),
        ("bucket", "write s3://bucket/prefix"),
        ("s3:///prefix", "write s3://bucket/prefix"),
        ("file://relative/folder", "write s3://bucket/prefix"),
        ("file:///no/such/folder", "/no/such/folder does not exist"),
        ("s3://bucket", "needs R2_ENDPOINT_URL, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY"),
    ],
)
def test_a_wrong_address_says_what_to_write(url, said):
    """The message is one sentence with an accepted form."""
    with pytest.raises(BadInput, match=re.escape(said)):
        open_store(url, Settings())


def test_an_endpoint_without_scheme_is_refused():
    """The likeliest mistake is the host name alone."""
    with pytest.raises(BadInput, match=r"R2_ENDPOINT_URL is 'account\.r2\.example'"):
        open_s3("account.r2.example")


@pytest.mark.parametrize("endpoint", ["https://h:abc", "https://h:", "https://exa mple.com", "https://h:999999"])
def test_an_endpoint_without_a_host_or_port_is_refused(endpoint):
    """Such an address would only be called unreachable."""
    with pytest.raises(BadInput, match="its host or port is not valid"):
        open_s3(endpoint)


def test_a_bucket_in_the_host_is_refused():
    """R2 serves a bucket at a host of its own too, where the bucket would become part of every key."""
    with pytest.raises(BadInput, match=r"cut 'bucket\.' from its host"):
        open_s3("https://bucket.account.r2.cloudflarestorage.com")
    open_s3("https://account.eu.r2.cloudflarestorage.com")


@pytest.mark.parametrize(
    ("endpoint", "cut"),
    [
        ("https://account.r2.example/bucket", "/bucket"),
        ("https://account.r2.example/bucket/", "/bucket/"),
        ("https://user:hunter2@account.r2.example/a/b", "/a/b"),
        ("https://account.r2.example?x=1", "?x=1"),
        ("https://account.r2.example/#a", "/#a"),
    ],
)
def test_an_endpoint_with_a_path_is_refused(endpoint, cut):
    """Cloudflare's page shows the endpoint with the bucket: every object would be missing."""
    with pytest.raises(BadInput, match=f"cut {re.escape(repr(cut))} from its end.*VFLEET_SOURCE_URL") as caught:
        open_s3(endpoint)
    assert "hunter2" not in str(caught.value)


def test_an_endpoint_may_end_in_a_slash():
    """``https://host/`` has no path."""
    open_s3("https://account.r2.example/")


@pytest.mark.parametrize("address", ["s3://user:hunter2@bucket", "gs://user:hunter2@bucket", "http://[hunter2"])
def test_an_address_that_is_refused_is_shown_without_its_password(address):
    """An address that does not parse is not shown at all."""
    with pytest.raises(BadInput) as caught:
        open_store(address, Settings())
    with pytest.raises(BadInput) as endpoint:
        open_s3(address)
    assert "hunter2" not in f"{caught.value} {endpoint.value}"


def test_errors_tell_callers_what_to_do():
    """Fail the video (``Permanent``), release the chunk (``BadInput``), or retry (``Transient``)."""
    assert issubclass(InvalidObjectKey, Permanent)
    assert issubclass(StoreRefused, BadInput)
    assert not issubclass(StoreRefused, Permanent)
    assert issubclass(Unreachable, FleetError)

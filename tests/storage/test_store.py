"""The object store answers, refuses or is away, and every one of the three says so in our own words."""

import re
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from obstore.store import ObjectStore

from tests.support.scripted_http_server import respond, send, serve
from validation.errors import BadInput, FleetError, Permanent, Unreachable
from validation.settings import Settings
from validation.storage import store as store_module
from validation.storage.errors import CredentialRejected, ObjectExists, ObjectMissing, StoreRefused
from validation.storage.store import (
    check_store,
    delete_object,
    get_bytes,
    list_keys,
    object_exists,
    open_store,
    put_once,
    stream_object,
)

ACCESS_KEY, SECRET_KEY, TOKEN = "AKIAnobodysees", "secretnobodysees", "tokennobodysees"
NOWHERE = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


def s3_settings(endpoint: str) -> Settings:
    return Settings(
        s3_endpoint_url=endpoint, s3_access_key_id=ACCESS_KEY, s3_secret_access_key=SECRET_KEY, s3_session_token=TOKEN
    )


def open_s3(endpoint: str, bucket: str = "bucket") -> ObjectStore:
    return open_store(f"s3://{bucket}", s3_settings(endpoint))


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


def test_an_object_comes_back_as_it_was_put(store):
    """Under any name that a video may have, and at any size."""
    for key, payload in {"a b/ü%+#.tar": b"x", "empty": b"", "large": bytes(range(256)) * 20_000}.items():
        assert not object_exists(store, key)
        put_once(store, key, payload)
        assert object_exists(store, key)
        assert get_bytes(store, key) == payload


def test_a_stream_gives_the_same_bytes_in_pieces_of_any_size(store):
    """Whoever reads it, in gulps or in sips, sees one object from front to back."""
    payload = bytes(range(256)) * 9000
    put_once(store, "key", payload)
    with stream_object(store, "key") as stream:
        assert stream.size_bytes == len(payload)
        sips = [stream.read(size) for size in (1, 511, 2 << 20)]
        assert b"".join(sips) + stream.readall() == payload
        assert stream.read(1) == b""


def test_of_sixteen_writers_one_wins(store):
    """However they interleave, one succeeds, the others are told, and what lies there is the winner's."""
    barrier = threading.Barrier(16)

    def race(writer: int) -> bool:
        barrier.wait()
        try:
            put_once(store, "shard", b"%d" % writer)
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


def test_deleting_is_idempotent(store):
    """Afterwards the object is gone, whether or not it was there."""
    put_once(store, "a", b"1")
    delete_object(store, "a")
    delete_object(store, "a")
    assert not object_exists(store, "a")


def test_keys_are_listed_by_folder(store):
    """A prefix is a folder: its namesakes with longer names are not in it."""
    for key in ("shards/a", "shards/w/b", "shards2/c"):
        put_once(store, key, b"")
    assert sorted(list_keys(store, "shards")) == ["shards/a", "shards/w/b"]
    assert sorted(list_keys(store)) == ["shards/a", "shards/w/b", "shards2/c"]


@pytest.mark.parametrize("key", ["../outside", "a//b"])
def test_a_key_that_cannot_exist_fails_for_good(store, key):
    """A video id with dots or slashes in odd places leads nowhere, and costs one video and not the chunk."""
    with pytest.raises(Permanent):
        stream_object(store, key)


def test_a_prefix_keeps_to_itself(object_store, bucket):
    """What is written below a prefix is seen from the bucket at its full name."""
    settings = s3_settings(object_store.endpoint_url)
    put_once(open_store(bucket, settings), "a", b"1")
    assert list(list_keys(open_store(bucket.removesuffix("/some/prefix"), settings))) == ["some/prefix/a"]


def test_a_preflight_passes_where_all_is_well(store):
    """An empty store is no error."""
    check_store(store)


ASKS = [
    pytest.param(check_store, id="check"),
    pytest.param(lambda store: stream_object(store, "a"), id="stream"),
    pytest.param(lambda store: object_exists(store, "a"), id="exists"),
    pytest.param(lambda store: put_once(store, "a", b"1"), id="put"),
    pytest.param(lambda store: delete_object(store, "a"), id="delete"),
    pytest.param(lambda store: list(list_keys(store)), id="list"),
]


@pytest.mark.parametrize("ask", ASKS)
def test_a_wrong_bucket_is_nobodys_missing_object(object_store, ask):
    """A typo in the settings must not fail half a million videos as missing: it is bad input, whoever asks."""
    with pytest.raises(StoreRefused, match=r"s3://no-such-bucket at http://.*NoSuchBucket.*VFLEET_SOURCE_URL"):
        ask(open_s3(object_store.endpoint_url, "no-such-bucket"))


@pytest.mark.parametrize("ask", ASKS)
def test_a_web_server_that_is_no_object_store_holds_no_missing_objects(ask):
    """Behind a wrong endpoint everything is 404, and no video is to fail for it."""
    with serve(respond(404, b"<html>not found")) as script, pytest.raises(StoreRefused, match="R2_ENDPOINT_URL"):
        ask(open_s3(script.url))


@pytest.mark.parametrize("ask", ASKS)
def test_a_refused_connection_is_transient_and_says_what_to_check(ask):
    """The sentence names the address, the cause and the setting."""
    expected = r"object store at s3://bucket at http://127\.0\.0\.1:9 is unreachable: .*R2_ENDPOINT_URL.*refused"
    with pytest.raises(Unreachable, match=expected):
        ask(open_s3(NOWHERE))


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("ask", ASKS)
def test_a_refused_credential_is_never_told(ask, status):
    """S3 echoes access keys in its answers. No message, note or traceback of ours repeats one."""
    body = f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>".encode()
    with serve(respond(status, body)) as script, pytest.raises(StoreRefused, match="R2_ACCESS_KEY_ID") as caught:
        ask(open_s3(script.url))
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
    assert not re.search(f"{ACCESS_KEY}|{SECRET_KEY}|{TOKEN}", told)


def test_a_store_does_not_show_its_credentials():
    """Printing a store, or its configuration, is safe."""
    store = open_s3(NOWHERE)
    shown = f"{store!r} {store.config} {store.credential_provider!r}"
    assert not re.search(f"{ACCESS_KEY}|{SECRET_KEY}|{TOKEN}", shown)


@pytest.mark.parametrize(
    "answer",
    [respond(503), respond(403), respond(404), respond(200, b"x", content_length=9), lambda request: None],
    ids=["busy", "forbidden", "missing", "short", "silent"],
)
def test_an_address_is_told_without_its_password(answer):
    """An endpoint may carry a user and a password, for a proxy that asks for them. No error repeats them."""
    with serve(answer) as script, pytest.raises(FleetError) as caught:
        get_bytes(open_s3(script.url.replace("//", "//user:hunter2@")), "a")
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_credentials_come_from_the_settings_alone(monkeypatch):
    """What the environment says to Amazon's own tools is not sent to this store."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "strangers-token")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "strangers-key")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    with serve(respond(404, b"<Error><Code>NoSuchKey</Code></Error>")) as script:
        check_store(open_s3(script.url))
    (request,) = script.asked
    assert f"Credential={ACCESS_KEY}/" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == TOKEN


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_store_is_asked_three_times_and_then_left_to_the_caller(status):
    """Its own retries bridge a hiccup; an outage belongs to whoever schedules the work."""
    body = b"<Error><Code>SlowDown</Code></Error>"
    with serve(respond(status, body)) as script, pytest.raises(Unreachable, match=f"{status} SlowDown"):
        stream_object(open_s3(script.url), "a")
    assert len(script.asked) == 3


def test_a_write_that_met_another_is_tried_again_later():
    """A conflict is not a loss: neither writer is known to have won."""
    body = b"<Error><Code>ConditionalRequestConflict</Code></Error>"
    with serve(respond(409, body)) as script, pytest.raises(Unreachable, match=r"409 ConditionalRequestConflict"):
        put_once(open_s3(script.url), "a", b"1")


def test_a_broken_download_resumes_where_it_broke():
    """The second request asks only for the rest, and the reader sees one whole object."""
    payload = bytes(range(256)) * 1000

    def answer(request) -> None:
        asked = request.headers["range"]
        if asked is None:
            send(request, 200, payload[:100_000], content_length=len(payload))
            return
        first = int(re.match(r"bytes=(\d+)-", asked)[1])
        send(request, 206, payload[first:], content_range=f"bytes {first}-{len(payload) - 1}/{len(payload)}")

    with serve(answer) as script:
        assert get_bytes(open_s3(script.url), "a") == payload
    assert len(script.asked) == 2


def test_an_object_that_shrank_is_not_read_on():
    """Half of the old object and half of the new make neither."""

    def answer(request) -> None:
        if request.headers["range"] is None:
            send(request, 200, b"x" * 1000, content_length=2000)
        else:
            send(request, 206, b"y" * 500, content_range="bytes 1000-1499/1500")

    with serve(answer) as script, pytest.raises(Unreachable):
        get_bytes(open_s3(script.url), "a")


def test_a_short_download_is_not_a_short_object():
    """A store that keeps breaking off is away; what arrived is not taken for the object."""
    with serve(respond(200, b"x" * 1000, content_length=2000)) as script, pytest.raises(Unreachable):
        get_bytes(open_s3(script.url), "a")


def test_a_store_that_says_nothing_is_given_up(monkeypatch):
    """An open connection is no sign of life."""
    monkeypatch.setattr(store_module, "_STALL_TIMEOUT_S", 0.1)
    with serve(lambda _: script.over.wait()) as script, pytest.raises(Unreachable, match="failed: Timeout"):
        get_bytes(open_s3(script.url), "a")


def test_a_folder_that_goes_away_is_not_a_folder_without_videos(tmp_path):
    """An unmounted disk is an outage."""
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
def test_a_wrong_address_is_one_sentence(url, said):
    """Whoever configured it reads what to write instead."""
    with pytest.raises(BadInput, match=re.escape(said)):
        open_store(url, Settings())


def test_an_endpoint_without_scheme_is_one_sentence():
    """The likeliest slip: the host alone."""
    with pytest.raises(BadInput, match=r"R2_ENDPOINT_URL is 'account\.r2\.example'"):
        open_s3("account.r2.example")


def test_every_error_is_one_of_ours():
    """The hierarchy tells callers what to do: fail the video, give up the claim, or try again."""
    assert issubclass(CredentialRejected, Permanent)
    assert issubclass(StoreRefused, BadInput)
    assert not issubclass(StoreRefused, Permanent)
    assert issubclass(Unreachable, FleetError)

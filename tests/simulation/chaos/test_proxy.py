"""The proxy with network faults, before a real store and with a real client."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from uuid import uuid4

import pytest

from simulation.chaos.faulty_store import FaultyStore
from simulation.chaos.network_faults import NONE, SEVERE, NetworkFault
from simulation.chaos.proxy import RUN_MARKER, find_client
from validation.errors import Unreachable
from validation.local.service import HOST
from validation.settings import Settings
from validation.storage.errors import ObjectExists
from validation.storage.store import delete_object, get_bytes, list_keys, open_store, put_if_absent

PAYLOAD = os.urandom(200_000)


@pytest.fixture(scope="module")
def mark() -> str:
    return uuid4().hex


@pytest.fixture(scope="module")
def bucket(object_store) -> str:
    name = f"proxy-{os.getpid()}"
    object_store.create_bucket(name)
    return name


@pytest.fixture(scope="module")
def running_proxy(object_store, session_folder, bucket, mark) -> Iterator[FaultyStore]:
    poison_path = f"/{bucket}/poison.tar"
    with FaultyStore(session_folder / "proxy", object_store, poison_path=poison_path, mark=mark) as proxy:
        yield proxy


@pytest.fixture
def proxy(running_proxy) -> Iterator[FaultyStore]:
    yield running_proxy
    running_proxy.set_profile(NONE)


def store_at(endpoint: str, bucket: str):
    return open_store(
        f"s3://{bucket}", Settings(s3_endpoint_url=endpoint, s3_access_key_id="a", s3_secret_access_key="b")
    )


@pytest.fixture
def through(proxy, bucket):
    """The store through the proxy."""
    return store_at(f"http://{HOST}:{proxy.port}", bucket)


@pytest.fixture
def direct(object_store, bucket):
    """The store without the proxy."""
    store = store_at(object_store.endpoint_url, bucket)
    yield store
    for key in list(list_keys(store)):
        delete_object(store, key)


def ask(proxy: FaultyStore, method: str, path: str, payload: bytes | None = None) -> HTTPResponse:
    """One request without retries; raises the error of a broken connection."""
    connection = HTTPConnection(HOST, proxy.port, timeout=10)
    try:
        connection.request(method, path, payload)
        reply = connection.getresponse()
        reply.body = reply.read()
        return reply
    finally:
        connection.close()


def test_proxy_without_faults_changes_nothing(through, direct):
    """Writing, writing once, reading, listing and deleting work as without the proxy."""
    put_if_absent(through, "a", PAYLOAD)
    with pytest.raises(ObjectExists):
        put_if_absent(through, "a", b"another")
    assert get_bytes(through, "a") == get_bytes(direct, "a") == PAYLOAD
    assert list(list_keys(through)) == ["a"]
    delete_object(through, "a")
    assert list(list_keys(direct)) == []


def test_reset_request_never_reaches_the_store(proxy, bucket, direct):
    """The client sees a broken connection, and the store holds nothing."""
    proxy.set_profile({NetworkFault.RESET: 1.0})
    with pytest.raises((OSError, HTTPException)):
        ask(proxy, "PUT", f"/{bucket}/lost", b"x")
    assert list(list_keys(direct)) == []


def test_lost_response_belongs_to_a_completed_request(proxy, bucket, direct):
    """The client sees a broken connection, and the object is there."""
    proxy.set_profile({NetworkFault.LOST_RESPONSE: 1.0})
    with pytest.raises((OSError, HTTPException)):
        ask(proxy, "PUT", f"/{bucket}/written", b"x")
    assert get_bytes(direct, "written") == b"x"


def test_truncated_response_is_detected(proxy, through, direct):
    """A plain client sees the wrong length; the store client resumes or fails, and never returns fewer bytes."""
    proxy.set_profile({NetworkFault.TRUNCATED_RESPONSE: 1.0})
    with pytest.raises((OSError, HTTPException)):
        ask(proxy, "GET", "/moto-api/")
    put_if_absent(direct, "cut", PAYLOAD)
    with suppress(Unreachable):
        assert get_bytes(through, "cut") == PAYLOAD


def test_unavailable_store_answers_503(proxy, bucket, through):
    """The store client reports 503 as unreachable, which is transient."""
    proxy.set_profile({NetworkFault.UNAVAILABLE: 1.0})
    assert ask(proxy, "GET", f"/{bucket}/a").status == 503
    with pytest.raises(Unreachable):
        get_bytes(through, "a")


def test_retrying_client_succeeds_under_severe_faults(proxy, through, direct):
    """With faults in two of five requests, a client that retries reads every byte and writes the object once."""
    proxy.set_profile(SEVERE)
    written = None
    for _ in range(20):
        with suppress(Unreachable):
            with suppress(ObjectExists):  # an earlier try was carried out, and its response was lost
                put_if_absent(through, "stormy", PAYLOAD)
            written = get_bytes(through, "stormy")
            break
    assert written == get_bytes(direct, "stormy") == PAYLOAD


PROGRAM = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=20)
connection.request("GET", sys.argv[2])
connection.getresponse().read()
"""


@pytest.mark.parametrize(("own", "ended"), [(True, -signal.SIGKILL), (False, 0)])
def test_poison_kills_only_processes_of_the_run(proxy, bucket, mark, own, ended):
    """A process without the run's marker may request the poison video and lives on."""
    environment = {**os.environ, RUN_MARKER: mark if own else "another"}
    command = [sys.executable, "-c", PROGRAM, str(proxy.port), f"/{bucket}/poison.tar"]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == ended
    assert ask(proxy, "GET", f"/{bucket}/other").status == 404  # the proxy itself sessions on


def test_client_is_found_despite_a_closed_connection_with_its_port():
    """The client is identified by both addresses, so a closed connection with the same port does not hide it."""
    with listen() as closed, listen() as lasting:
        first = connect(0, closed)
        port = first.getsockname()[1]
        with closed.accept()[0]:
            first.close()
        with connect(port, lasting), lasting.accept()[0] as served:
            assert find_client(served) == os.getpid()


def listen() -> socket.socket:
    return socket.create_server((HOST, 0))


def connect(port: int, server: socket.socket) -> socket.socket:
    """A connection from this port (0: any), which may still be in TIME_WAIT."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.bind((HOST, port))
    connection.connect(server.getsockname())
    return connection

"""The faulty line, against a real store and with a real client."""

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
from simulation.chaos.proxy import MARK_VARIABLE, find_client
from validation.errors import Unreachable
from validation.local.loopback import HOST
from validation.settings import Settings
from validation.storage.errors import ObjectExists
from validation.storage.store import delete_object, get_bytes, list_keys, open_store, put_once

PAYLOAD = os.urandom(200_000)


@pytest.fixture(scope="module")
def mark() -> str:
    return uuid4().hex


@pytest.fixture(scope="module")
def bucket(object_store) -> str:
    name = f"line-{os.getpid()}"
    object_store.create_bucket(name)
    return name


@pytest.fixture(scope="module")
def running_line(object_store, session_folder, bucket, mark) -> Iterator[FaultyStore]:
    poison_path = f"/{bucket}/poison.tar"
    with FaultyStore(session_folder / "line", object_store, poison_path=poison_path, mark=mark) as line:
        yield line


@pytest.fixture
def line(running_line) -> Iterator[FaultyStore]:
    yield running_line
    running_line.set_profile(NONE)


def store_at(endpoint: str, bucket: str):
    return open_store(
        f"s3://{bucket}", Settings(s3_endpoint_url=endpoint, s3_access_key_id="a", s3_secret_access_key="b")
    )


@pytest.fixture
def through(line, bucket):
    """The store as the fleet sees it."""
    return store_at(f"http://{HOST}:{line.port}", bucket)


@pytest.fixture
def direct(object_store, bucket):
    """The store as it is."""
    store = store_at(object_store.endpoint_url, bucket)
    yield store
    for key in list(list_keys(store)):
        delete_object(store, key)


def ask(line: FaultyStore, method: str, path: str, payload: bytes | None = None) -> HTTPResponse:
    """One request without retries; raises what a broken connection raises."""
    connection = HTTPConnection(HOST, line.port, timeout=10)
    try:
        connection.request(method, path, payload)
        reply = connection.getresponse()
        reply.body = reply.read()
        return reply
    finally:
        connection.close()


def test_in_calm_weather_the_store_is_as_it_is(through, direct):
    """Writing, writing once, reading, listing and deleting are what they are without the line."""
    put_once(through, "a", PAYLOAD)
    with pytest.raises(ObjectExists):
        put_once(through, "a", b"another")
    assert get_bytes(through, "a") == get_bytes(direct, "a") == PAYLOAD
    assert list(list_keys(through)) == ["a"]
    delete_object(through, "a")
    assert list(list_keys(direct)) == []


def test_a_reset_request_never_arrives(line, bucket, direct):
    """The client sees a broken connection, and the store nothing."""
    line.set_profile({NetworkFault.RESET: 1.0})
    with pytest.raises((OSError, HTTPException)):
        ask(line, "PUT", f"/{bucket}/lost", b"x")
    assert list(list_keys(direct)) == []


def test_a_lost_answer_is_to_a_request_that_was_carried_out(line, bucket, direct):
    """The client sees a broken connection, and the object is there."""
    line.set_profile({NetworkFault.LOST_ANSWER: 1.0})
    with pytest.raises((OSError, HTTPException)):
        ask(line, "PUT", f"/{bucket}/written", b"x")
    assert get_bytes(direct, "written") == b"x"


def test_a_cut_answer_is_known_to_be_cut(line, through, direct):
    """Its length was told: a plain client notices, and ours reads on from where it broke or fails, never short."""
    line.set_profile({NetworkFault.CUT_ANSWER: 1.0})
    with pytest.raises((OSError, HTTPException)):
        ask(line, "GET", "/moto-api/")
    put_once(direct, "cut", PAYLOAD)
    with suppress(Unreachable):
        assert get_bytes(through, "cut") == PAYLOAD


def test_an_unavailable_store_says_so(line, bucket, through):
    """503, which clients take for transient."""
    line.set_profile({NetworkFault.UNAVAILABLE: 1.0})
    assert ask(line, "GET", f"/{bucket}/a").status == 503
    with pytest.raises(Unreachable):
        get_bytes(through, "a")


def test_a_patient_client_gets_through_a_storm(line, through, direct):
    """Two in five requests go wrong; whoever asks again gets every byte, and writes one object once."""
    line.set_profile(SEVERE)
    written = None
    for _ in range(20):
        with suppress(Unreachable):
            with suppress(ObjectExists):  # an earlier try was carried out, and its answer lost
                put_once(through, "stormy", PAYLOAD)
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
def test_poison_kills_who_asks_for_it_and_belongs_to_the_run(line, bucket, mark, own, ended):
    """A process without the run's mark is nobody's to kill."""
    environment = {**os.environ, MARK_VARIABLE: mark if own else "another"}
    command = [sys.executable, "-c", PROGRAM, str(line.port), f"/{bucket}/poison.tar"]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == ended
    assert ask(line, "GET", f"/{bucket}/other").status == 404  # the line itself lives on


def test_the_client_is_found_behind_a_connection_just_closed_that_bore_its_port():
    """A port says who asks only together with where it leads: what is closed has no process, and hides nobody."""
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
    """A connection from this port (0: any), which another of this process may just have left."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    connection.bind((HOST, port))
    connection.connect(server.getsockname())
    return connection

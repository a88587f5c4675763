"""Many clients at one server: none can harm it, see another client's data, or starve the others."""

import json
import os
import socket
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest

from tests.support.inference_process import exchange, make_utterance, outcomes
from validation.inference.client_io import ServerConnection, ServerRejectedClient
from validation.inference.protocol import MAX_FRAME_BYTES, VERSION, Arena, pack_frame
from validation.inference.scheduler import MAX_INFLIGHT_BATCHES_PER_CLIENT
from validation.inference.server import MAX_CLIENTS
from validation.local.process import poll_until

pytestmark = pytest.mark.stack
HELLO = {"hello": VERSION}
ARENA_BYTES = 1 << 20


def request(request_id: object, offset: object, samples: object, text: object = "a", models: object = None) -> dict:
    return {"request": [request_id, offset, samples, text, "hi", models]}


@contextmanager
def shared_descriptor(kind: str):
    """A descriptor to share: a valid arena, or one that a reader must not map."""
    if kind == "sealed":
        with closing(Arena(ARENA_BYTES)) as arena:
            yield arena.fd
    elif kind == "unsealed":
        fd = os.memfd_create("arena", os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, ARENA_BYTES)
        yield fd
        os.close(fd)
    else:
        with tempfile.TemporaryFile() as file:
            file.truncate(ARENA_BYTES)
            yield file.fileno()


def packed(*frames: dict) -> bytes:
    return b"".join(pack_frame(frame) for frame in frames)


@pytest.mark.parametrize(
    ("kind", "stream", "reason"),
    [
        ("unsealed", packed(HELLO), "not a memfd that is sealed"),
        ("file", packed(HELLO), "not a memfd that is sealed"),
        ("sealed", packed({"hello": VERSION + 1}), f"version {VERSION + 1} of the protocol"),
        ("sealed", packed(HELLO, HELLO), "hello comes once"),
        ("sealed", packed(request("x", 0, 10)), "before hello"),
        ("sealed", packed(HELLO, request("x", ARENA_BYTES // 4 - 9, 10)), "outside an arena"),
        ("sealed", packed(HELLO, request("x", -1, 10)), "outside an arena"),
        ("sealed", packed(HELLO, request("x", 10, -1)), "outside an arena"),
        ("sealed", packed(HELLO, request("x", 2**70, 2**70)), "outside an arena"),
        ("sealed", packed(HELLO, request("x", 0.5, 10)), "not a frame of this protocol"),
        ("sealed", packed(HELLO, request("x", 0, 10, None)), "not a frame of this protocol"),
        ("sealed", packed(HELLO, request("x", 0, 10, models=[{}])), "not a list of model names"),
        ("sealed", packed(HELLO, *[request("x", 0, 9999, "wait")] * 2), "request x is sent twice"),
        ("sealed", struct.pack(">I", MAX_FRAME_BYTES + 1), "are allowed"),
        ("sealed", struct.pack(">I", 5) + b"[1,2,", "not JSON"),
    ],
)
def test_client_that_violates_the_protocol_is_rejected_with_the_reason(misused_server, kind, stream, reason):
    """Offsets outside its arena, memory that could shrink, malformed frames: the client gets the reason, the server
    lives on and keeps nothing of that client."""
    with shared_descriptor(kind) as fd, closing(ServerConnection(misused_server.socket)) as connection:
        socket.send_fds(connection._socket, [stream], [fd])
        with pytest.raises(ServerRejectedClient, match=reason):
            read_until_rejected(connection)


def read_until_rejected(connection: ServerConnection) -> None:
    while True:
        connection.await_frame()


@pytest.fixture
def misused_server(shared_server):
    """A server that tests may misuse: afterwards it serves as before, with as many open files."""
    yield shared_server
    with shared_server.client() as client:
        assert outcomes(client.score([make_utterance(1, "well")])) == ["well"]
    assert poll_until(lambda: shared_server.open_files() == shared_server.open_at_start, within_s=30), (
        shared_server.open_files()
    )
    assert shared_server.status()["queue"]["segments"] == 0


def test_clients_that_disconnect_leave_no_open_files(misused_server):
    """Whether they leave before or in the middle of a frame, and with one arena or six."""
    for length in (0, 3, 20, None):
        with shared_descriptor("sealed") as fd, closing(ServerConnection(misused_server.socket)) as connection:
            stream = packed(HELLO, request("gone", 0, 16_000))[:length] or b"\0"
            socket.send_fds(connection._socket, [stream], [fd])
    with (
        shared_descriptor("sealed") as fd,
        closing(ServerConnection(misused_server.socket)) as connection,
        suppress(BrokenPipeError),
    ):
        for _ in range(6):
            socket.send_fds(connection._socket, [b"\0"], [fd])


def test_number_of_clients_is_limited(misused_server):
    """The client beyond the limit is rejected; when another has left, it may connect."""
    connections = [ServerConnection(misused_server.socket) for _ in range(MAX_CLIENTS)]
    try:
        assert poll_until(lambda: is_rejected(misused_server), within_s=30)
    finally:
        for connection in connections:
            connection.close()
    assert poll_until(lambda: not is_rejected(misused_server), within_s=30)


def is_rejected(server) -> bool:
    """Whether the server rejects one more client."""
    try:
        return not server.status()
    except ServerRejectedClient as rejection:
        return f"has {MAX_CLIENTS} clients already" in str(rejection)


def test_client_that_overwrites_its_audio_changes_no_other_answer(misused_server):
    """Audio is read from the client's own arena and copied once: a client that keeps writing to its arena spoils its
    own answer alone."""
    restless = Arena(ARENA_BYTES)
    with (
        closing(restless),
        closing(ServerConnection(misused_server.socket)) as connection,
        misused_server.client() as client,
    ):
        connection.handshake(restless)
        restless.write(0, np.full(32_000, 0.5, np.float32))
        connection._socket.sendall(packed(request("restless", 0, 32_000)))
        for level in (np.nan, np.inf, 1e30):
            restless.write(0, np.full(32_000, level, np.float32))
            assert outcomes(client.score([make_utterance(2, "a"), make_utterance(2, "b")])) == ["a", "b"]
        assert "answer" in connection.await_frame()


def test_greedy_client_does_not_starve_a_small_one(server):
    """A client has as many segments pending as back-pressure admits when another comes with three: these three are
    in the next batches."""
    many = [make_utterance(5, "wait"), *(make_utterance(4, f"{n}") for n in range(100))]
    with server.client() as greedy, server.client() as small, ThreadPoolExecutor(2) as background:
        greedy_answers = background.submit(greedy.score, many)
        server.wait_for("wait")
        assert poll_until(lambda: server.status()["queue"]["audio_s"] == 308, within_s=30)  # 321 s, 13 of them taken
        small_answers = background.submit(small.score, [make_utterance(1 + n, f"small {n}") for n in range(3)])
        assert poll_until(lambda: server.status()["queue"]["audio_s"] == 314, within_s=30)
        server.gate.touch()
        assert outcomes(small_answers.result(60)) == ["small 0", "small 1", "small 2"]
        assert outcomes(greedy_answers.result(60)) == ["wait", *(f"{n}" for n in range(100))]
    last = max(n for n, batch in enumerate(server.batches()) if any("small" in text for text in batch))
    assert last < 12
    assert len(server.batches()) > 40


def test_pending_audio_of_a_flooding_client_is_bounded(server):
    """A client sends without reading answers: the server reads no further than the in-flight limit, serves another
    client meanwhile, and answers every request once the first client reads."""
    count, budget_s = 300, server.status()["budget_s"]
    texts = ["wait", *(f"{n} " + "x" * 1000 for n in range(1, count))]
    requests = [packed(request(f"id-{n}", 0, 160_000, text)) for n, text in enumerate(texts)]
    answers: dict = {}
    with (
        closing(Arena(ARENA_BYTES)) as arena,
        closing(ServerConnection(server.socket)) as connection,
        server.client() as other,
        ThreadPoolExecutor(2) as background,
    ):
        connection.handshake(arena)
        flood = background.submit(exchange, connection, requests, answers)
        server.wait_for("wait")
        assert poll_until(
            lambda: server.status()["queue"]["audio_s"] > (MAX_INFLIGHT_BATCHES_PER_CLIENT - 3) * budget_s,
            within_s=30,
        )
        for _ in range(5):
            assert server.status()["queue"]["audio_s"] <= MAX_INFLIGHT_BATCHES_PER_CLIENT * budget_s + 10
        server.gate.touch()
        assert outcomes(other.score([make_utterance(1, "other")])) == ["other"]
        assert server.status()["queue"]["segments"] > 0
        flood.result(100)
    assert len(answers) == count


def test_cancelled_segments_are_not_scored(server):
    """A client that cancels some of its segments gets the answers of the rest; no cancelled segment is scored except
    those whose batch was taken already."""
    with server.client() as client:
        kept = client.begin([make_utterance(5, "wait"), make_utterance(1, "kept")])
        server.wait_for("wait")
        cancelled = client.begin([make_utterance(9, f"{n}") for n in range(20)])
        assert poll_until(lambda: server.status()["queue"]["segments"] >= 20, within_s=30)
        cancelled.cancel()
        assert cancelled.wait(0)
        assert poll_until(lambda: server.status()["queue"]["segments"] < 20, within_s=30)
        server.gate.touch()
        assert kept.wait(60)
        assert outcomes(kept.answers()) == ["wait", "kept"]
        assert outcomes(client.score([make_utterance(2, "later")])) == ["later"]
    scored = [text for batch in server.batches() for text in batch if text.isdecimal()]
    assert len(scored) <= 1  # in the batch that was prepared beside the running one
    assert len([answer for answer in cancelled.answers() if answer]) <= 1


def test_client_may_submit_more_than_its_arena_holds(shared_server):
    """Segments that do not fit in the arena wait in the client; each answer frees room, in any order, and every
    segment gets its own answer."""
    with shared_server.client(arena_bytes=4 * 16_000 * 7) as client:  # seven seconds
        groups = [[make_utterance(0.5 + (7 * n + g) % 13 / 4, f"{g}-{n}") for n in range(15)] for g in range(4)]
        jobs = [client.begin(group) for group in groups]
        for group, job in zip(groups, jobs, strict=True):
            assert job.wait(60)
            assert outcomes(job.answers()) == [utterance.text for utterance in group]


def test_client_that_never_reads_blocks_no_other_client(server):
    """Its answers wait in a bounded buffer; the server goes on with other clients."""
    server.gate.touch()
    with (
        closing(Arena(ARENA_BYTES)) as arena,
        closing(ServerConnection(server.socket)) as deaf,
        server.client() as other,
    ):
        deaf.handshake(arena)
        deaf._socket.setblocking(False)
        stream = packed(*(request(f"id-{n}", 0, 1600, "x" * 10_000) for n in range(1000)))
        sent = 0
        for _ in range(20):
            with suppress(BlockingIOError):
                sent += deaf._socket.send(stream[sent:])
            assert outcomes(other.score([make_utterance(1, "other")])) == ["other"]
        assert sent < len(stream)


def test_status_shows_the_clients_and_the_age_of_the_running_batch(server, background):
    """An operator sees that a batch hangs, and for how long."""
    with server.client() as client:
        workload = [make_utterance(5, "wait"), make_utterance(4, "a"), make_utterance(4, "b")]
        answers = background.submit(client.score, workload)
        server.wait_for("wait")
        assert poll_until(lambda: server.status()["current_batch_s"] > 0.2, within_s=30)
        status = server.status()
        assert status["clients"] == 2
        assert json.dumps(status)
        server.gate.touch()
        answers.result(60)
    assert poll_until(lambda: server.status()["current_batch_s"] == 0, within_s=30)

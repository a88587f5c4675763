"""Many clients at one host: none can harm it, see what is another's, or keep the others waiting."""

import json
import os
import socket
import struct
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest

from tests.support.inference_process import exchange, said, spoken
from validation.inference.protocol import FRAME_BYTES, VERSION, pack_frame
from validation.inference.scheduler import MAX_INFLIGHT_BATCHES_PER_CLIENT
from validation.inference.shared_memory import Arena
from validation.inference.transport import ServerConnection, ServerRejectedClient
from validation.local.process import poll_until

HELLO = {"hello": VERSION}
ARENA_BYTES = 1 << 20


def ask(ask_id: object, offset: object, samples: object, text: object = "a", wanted: object = None) -> dict:
    return {"ask": [ask_id, offset, samples, text, "hi", wanted]}


@contextmanager
def shared(kind: str):
    """A descriptor to share: a sound arena, or one that a reader must not map."""
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


@pytest.mark.parametrize(
    ("kind", "stream", "sentence"),
    [
        ("unsealed", pack_frame(HELLO), "no memfd that is sealed"),
        ("file", pack_frame(HELLO), "no memfd that is sealed"),
        ("sealed", pack_frame({"hello": VERSION + 1}), "version 3 of the protocol"),
        ("sealed", pack_frame(HELLO) * 2, "hello comes once"),
        ("sealed", pack_frame(ask("x", 0, 10)), "before hello"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", ARENA_BYTES // 4 - 9, 10)), "do not lie in an arena"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", -1, 10)), "do not lie in an arena"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", 10, -1)), "do not lie in an arena"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", 2**70, 2**70)), "do not lie in an arena"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", 0.5, 10)), "no frame of this protocol"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", 0, 10, None)), "no frame of this protocol"),
        ("sealed", pack_frame(HELLO) + pack_frame(ask("x", 0, 10, wanted=[{}])), "no names of models"),
        ("sealed", pack_frame(HELLO) + 2 * pack_frame(ask("x", 0, 9999, "wait")), "x is asked twice"),
        ("sealed", struct.pack(">I", FRAME_BYTES + 1), "are the most"),
        ("sealed", struct.pack(">I", 5) + b"[1,2,", "no JSON"),
    ],
)
def test_a_client_that_breaks_the_rules_is_told_so_and_left(well_host, kind, stream, sentence):
    """Offsets outside its arena, memory that could vanish, frames that are none: the client learns which rule it broke,
    the host lives, and it holds nothing of that client any more."""
    with shared(kind) as fd, closing(ServerConnection(well_host.socket)) as link:
        socket.send_fds(link._socket, [stream], [fd])
        with pytest.raises(ServerRejectedClient, match=sentence):
            hear_all(link)


def hear_all(link: ServerConnection) -> None:
    while True:
        link.await_frame()


@pytest.fixture
def well_host(shared_host):
    """A host that many tests may misuse: afterwards it serves as before, with as many open files."""
    yield shared_host
    with shared_host.scorer() as scorer:
        assert said(scorer.score([spoken(1, "well")])) == ["well"]
    assert poll_until(lambda: shared_host.open_files() == shared_host.open_at_start, within_s=30), (
        shared_host.open_files()
    )
    assert shared_host.status()["queue"]["segments"] == 0


def test_clients_come_and_go_without_a_trace(well_host):
    """With or without a goodbye, in the middle of a frame, with half a dozen arenas: nothing stays open."""
    for cut in (0, 3, 20, None):
        with shared("sealed") as fd, closing(ServerConnection(well_host.socket)) as link:
            socket.send_fds(
                link._socket, [(pack_frame(HELLO) + pack_frame(ask("gone", 0, 16_000)))[:cut] or b"\0"], [fd]
            )
    with shared("sealed") as fd, closing(ServerConnection(well_host.socket)) as link, suppress(BrokenPipeError):
        for _ in range(6):
            socket.send_fds(link._socket, [b"\0"], [fd])


def test_a_host_takes_no_more_clients_than_it_can_bear(well_host):
    """The one too many is refused; when one has left, it may come."""
    links = [ServerConnection(well_host.socket) for _ in range(64)]
    try:
        assert poll_until(lambda: is_refused(well_host), within_s=30)
    finally:
        for link in links:
            link.close()
    assert poll_until(lambda: not is_refused(well_host), within_s=30)


def is_refused(host) -> bool:
    try:
        return not host.status()
    except ServerRejectedClient as refused:
        return "has 64 clients already" in str(refused)


def test_what_a_client_writes_after_it_asked_reaches_nobody_else(well_host):
    """Audio is read from the asker's own arena and copied once: a client that goes on writing harms its own answer
    alone."""
    restless = Arena(ARENA_BYTES)
    with closing(restless), closing(ServerConnection(well_host.socket)) as link, well_host.scorer() as scorer:
        link.greet(restless)
        restless.write(0, np.full(32_000, 0.5, np.float32))
        link._socket.sendall(pack_frame(ask("restless", 0, 32_000)))
        for level in (np.nan, np.inf, 1e30):
            restless.write(0, np.full(32_000, level, np.float32))
            assert said(scorer.score([spoken(2, "a"), spoken(2, "b")])) == ["a", "b"]
        assert "answer" in link.await_frame()


def test_a_greedy_client_does_not_starve_a_small_one(host):
    """A hundred segments, as many as are let in, wait before a client comes with three: theirs are the next batches."""
    with host.scorer() as greedy, host.scorer() as small, ThreadPoolExecutor(2) as aside:
        much = aside.submit(greedy.score, [spoken(5, "wait"), *(spoken(4, f"{n}") for n in range(100))])
        host.wait_for("wait")
        assert poll_until(lambda: host.status()["queue"]["audio_s"] == 308, within_s=30)  # 321 s, 13 of them in hand
        little = aside.submit(small.score, [spoken(1 + n, f"small {n}") for n in range(3)])
        assert poll_until(lambda: host.status()["queue"]["audio_s"] == 314, within_s=30)
        host.gate.touch()
        assert said(little.result(60)) == ["small 0", "small 1", "small 2"]
        assert said(much.result(60)) == ["wait", *(f"{n}" for n in range(100))]
    last = max(n for n, batch in enumerate(host.batches()) if any("small" in text for text in batch))
    assert last < 12
    assert len(host.batches()) > 40


def test_a_client_that_only_asks_is_heard_no_further_than_its_credit(host):
    """What waits is bounded by audio, whatever a client sends; another is served meanwhile, and what was sent is all
    answered once the client reads."""
    count, budget_s = 300, host.status()["budget_s"]
    with closing(Arena(ARENA_BYTES)) as arena, closing(ServerConnection(host.socket)) as link, host.scorer() as other:
        link.greet(arena)
        asks = [
            pack_frame(ask(f"id-{n}", 0, 160_000, "wait" if n == 0 else f"{n} " + "x" * 1000)) for n in range(count)
        ]
        answers: dict = {}
        with ThreadPoolExecutor(2) as aside:
            flood = aside.submit(exchange, link, asks, answers)
            host.wait_for("wait")
            assert poll_until(
                lambda: host.status()["queue"]["audio_s"] > (MAX_INFLIGHT_BATCHES_PER_CLIENT - 3) * budget_s,
                within_s=30,
            )
            for _ in range(5):
                assert host.status()["queue"]["audio_s"] <= MAX_INFLIGHT_BATCHES_PER_CLIENT * budget_s + 10
            host.gate.touch()
            assert said(other.score([spoken(1, "other")])) == ["other"]
            assert host.status()["queue"]["segments"] > 0
            flood.result(100)
    assert len(answers) == count


def test_what_is_withdrawn_is_not_scored(host):
    """A client that does without some of its segments gets the rest; the models are asked about none of the others, but
    for what they had in hand."""
    with host.scorer() as scorer:
        kept = scorer.begin([spoken(5, "wait"), spoken(1, "kept")])
        host.wait_for("wait")
        dropped = scorer.begin([spoken(9, f"{n}") for n in range(20)])
        assert poll_until(lambda: host.status()["queue"]["segments"] >= 20, within_s=30)
        dropped.cancel()
        assert dropped.wait(0)
        assert poll_until(lambda: host.status()["queue"]["segments"] < 20, within_s=30)
        host.gate.touch()
        assert kept.wait(60)
        assert said(kept.answers()) == ["wait", "kept"]
        assert said(scorer.score([spoken(2, "later")])) == ["later"]
    prepared = [text for batch in host.batches() for text in batch if text.isdecimal()]
    assert len(prepared) <= 1  # laid out beside the present batch when it was withdrawn
    assert len([answer for answer in dropped.answers() if answer]) <= 1


def test_a_client_asks_far_ahead_of_its_arena(shared_host):
    """What has no room yet waits in the client; each answer makes room, in any order, and every answer is its own."""
    with shared_host.scorer(arena_bytes=4 * 16_000 * 7) as scorer:  # seven seconds
        groups = [[spoken(0.5 + (7 * n + g) % 13 / 4, f"{g}-{n}") for n in range(15)] for g in range(4)]
        under_way = [scorer.begin(group) for group in groups]
        for group, scoring in zip(groups, under_way, strict=True):
            assert scoring.wait(60)
            assert said(scoring.answers()) == [utterance.text for utterance in group]


def test_a_client_that_never_reads_stops_nobody(host):
    """Its answers wait for it in a bounded space; the host goes on with others."""
    host.gate.touch()
    with closing(Arena(ARENA_BYTES)) as arena, closing(ServerConnection(host.socket)) as deaf, host.scorer() as other:
        deaf.greet(arena)
        deaf._socket.setblocking(False)
        stream = b"".join(pack_frame(ask(f"id-{n}", 0, 1600, "x" * 10_000)) for n in range(1000))
        sent = 0
        for _ in range(20):
            with suppress(BlockingIOError):
                sent += deaf._socket.send(stream[sent:])
            assert said(other.score([spoken(1, "other")])) == ["other"]
        assert sent < len(stream)


def test_the_status_tells_who_waits_and_what_is_in_hand(host):
    """An operator sees that a batch hangs, and how long."""
    with host.scorer() as scorer, ThreadPoolExecutor(1) as aside:
        answers = aside.submit(scorer.score, [spoken(5, "wait"), spoken(4, "a"), spoken(4, "b")])
        host.wait_for("wait")
        assert poll_until(lambda: host.status()["present_batch_s"] > 0.2, within_s=30)
        status = host.status()
        assert status["clients"] == 2
        assert json.dumps(status)
        host.gate.touch()
        answers.result(60)
    assert poll_until(lambda: host.status()["present_batch_s"] == 0, within_s=30)

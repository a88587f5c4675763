"""What one box may take of the gateway and of the server behind it, and other forms of one request."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from validation.gateway.policy import HOURLY_BYTES, BudgetSpent, WriteBudget
from validation.gateway.tokens import headers_for
from validation.local.process import poll_until

pytestmark = [pytest.mark.attack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

PENDING = {"state": {"type": "PENDING"}}
HEARTBEAT = "/work_pools/vast-gpu/workers/heartbeat"


@pytest.fixture
def taken(gateway, waiting_run):
    """A run that a box has taken."""

    def take(box: str) -> str:
        run = waiting_run()
        with gateway.open_client(box) as client:
            assert client.post(f"/flow_runs/{run}/set_state", json=PENDING).status_code == 201
        return run

    return take


def test_box_writes_logs_of_its_own_runs_only(gateway, taken, waiting_run):
    """Lines under another box's run, a control run or no run would speak for them; those of its own run arrive."""
    own, theirs, control = taken("stolen"), taken("honest"), waiting_run("dispatch-chunks")

    def line(**about):
        return {"name": "x", "level": 20, "message": "m", "timestamp": "2026-01-01T00:00:00Z"} | about

    with gateway.open_client("stolen") as client:
        batch = [line(flow_run_id=run) for run in (theirs, own, control)] + [line(), line(task_run_id=own)]
        assert client.post("/logs/", json=batch).status_code == 201
        for odd in ({}, [1], [line(flow_run_id="x")], "x"):
            assert client.post("/logs/", json=odd).status_code == 403
    found = gateway.as_operator("POST", "/logs/filter", logs={"flow_run_id": {"any_": [own, theirs, control]}})
    assert [row["flow_run_id"] for row in found] == [own]


def test_budget_of_one_box_fills_up_within_an_hour():
    """Other boxes have their own; what was refused costs nothing."""
    now = [0.0]
    budget = WriteBudget(lambda: now[0])
    budget.spend("a", HOURLY_BYTES)
    for size in (1, HOURLY_BYTES + 1):
        with pytest.raises(BudgetSpent):
            budget.spend("a", size)
    budget.spend("b", HOURLY_BYTES)
    now[0] += 1800
    budget.spend("a", HOURLY_BYTES // 2)
    with pytest.raises(BudgetSpent):
        budget.spend("a", 1000)


def test_box_writes_no_more_than_its_budget(gateway):
    """Twenty requests per second of 4 MB would fill the server's disk within minutes; other boxes are served."""
    with gateway.open_client("flood") as flood:
        body = {"name": "flood", "metadata": "x" * 3_900_000}
        answers = [flood.post(HEARTBEAT, json=body).status_code for _ in range(HOURLY_BYTES // 3_900_000 + 2)]
    assert answers[-1] == 429
    assert answers[0] != 429
    with gateway.open_client("honest") as honest:
        assert honest.post(HEARTBEAT, json={"name": "honest"}).status_code == 204


@contextmanager
def connected(gateway, token: str, head: str) -> Iterator[socket.socket]:
    """A connection of a box that has sent the head of a request, as it is written."""
    authorization = json.loads(headers_for("stolen", token))["Authorization"]
    text = head.replace("\n", "\r\n") + f"Host: gateway\r\nAuthorization: {authorization}\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", gateway.nginx.port), timeout=20) as plain,
        gateway.nginx.trust().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(text.encode())
        yield connection


def send_raw(gateway, head: str, body: bytes = b"") -> bytes:
    """Send a request; returns the beginning of the answer."""
    with connected(gateway, gateway.tokens.add("stolen"), head) as connection:
        connection.sendall(body)
        return connection.recv(4096)


def test_box_uses_a_bounded_number_of_connections(gateway):
    """Streams, and requests whose body does not arrive, take connections of which all boxes share some hundreds."""
    token = gateway.tokens.add("stolen")
    with ExitStack() as waiting, gateway.open_client("honest") as honest:
        for _ in range(64):
            waiting.enter_context(connected(gateway, token, "POST /api/logs/ HTTP/1.1\nContent-Length: 9\n"))

        def is_refused() -> bool:
            with connected(gateway, token, "GET /api/health HTTP/1.1\n") as connection:
                return connection.recv(100).startswith(b"HTTP/1.1 429")

        assert poll_until(is_refused, within_s=10)
        assert honest.get("/health").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        "X-Vfleet-Box: honest\n",
        "X_Vfleet_Box: honest\n",
        "x-vfleet-box: honest\nConnection: X-Vfleet-Box\n",
        "X-Vfleet-Box: honest\nX-Vfleet-Box: honest\n",
        "X-HTTP-Method-Override: DELETE\n",
        "X-Original-URL: /api/health\nX-Forwarded-Prefix: /api\n",
    ],
)
def test_headers_make_no_other_box_of_the_holder_of_a_token(gateway, taken, headers):
    """nginx alone says which box sends a request."""
    run, body = taken("honest"), json.dumps({"name": "mine"}).encode()
    head = (
        f"PATCH /api/flow_runs/{run} HTTP/1.1\n{headers}Content-Type: application/json\nContent-Length: {len(body)}\n"
    )
    assert send_raw(gateway, head, body).startswith(b"HTTP/1.1 403")
    assert gateway.as_operator("GET", f"/flow_runs/{run}")["name"] != "mine"


HIDDEN = b"POST /api/block_documents/filter HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("POST /api/logs/ HTTP/1.1\nContent-Length: 4\nTransfer-Encoding: chunked\n", b"0\r\n\r\n" + HIDDEN),
        ("POST /api/logs/ HTTP/1.1\nContent-Length: 0\nContent-Length: 4\n", HIDDEN),
        ("POST /api/logs/ HTTP/1.1\nTransfer-Encoding: xchunked\n", b"0\r\n\r\n" + HIDDEN),
        ("POST /api/logs/ HTTP/1.1\nTransfer-Encoding : chunked\nContent-Length: 0\n", HIDDEN),
        ("POST /API/LOGS/ HTTP/1.1\nContent-Length: 2\n", b"[]"),
        ("post /api/logs/ HTTP/1.1\nContent-Length: 2\n", b"[]"),
        ("GET /api/health\\..\\admin/settings HTTP/1.1\n", b""),
        ("GET /api/health%00 HTTP/1.1\n", b""),
        ("GET http://127.0.0.1/api/admin/settings HTTP/1.1\n", b""),
        ("GET /api/health#/../admin/settings HTTP/1.1\n", b""),
    ],
)
def test_no_second_request_is_hidden_in_a_first(gateway, head, body):
    """A request that two servers could read differently is refused, and its connection is closed."""
    answer = send_raw(gateway, head, body)
    assert answer.split()[1] in {b"400", b"401", b"403", b"404", b"405", b"501"}
    assert b"block" not in answer


def test_upgrade_opens_no_tunnel_to_the_server(gateway):
    """Only the streams of events are upgraded: behind another protocol nginx would check no further request."""
    upgrade = "Connection: Upgrade, HTTP2-Settings\nUpgrade: {}\nHTTP2-Settings: AAMAAABkAAQAAP__\n"
    for protocol in ("h2c", "websocket"):
        answer = send_raw(gateway, f"GET /api/health HTTP/1.1\n{upgrade.format(protocol)}")
        assert answer.startswith(b"HTTP/1.1 200")

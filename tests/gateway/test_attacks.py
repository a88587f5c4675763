"""What somebody can do with the token of one box: nothing but that box's own work."""

import base64
import json
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from validation.gateway.tokens import headers_for
from validation.local.process import poll_until

pytestmark = pytest.mark.timeout(300)  # the first of them waits for the Prefect server as well

ID = "00000000-0000-0000-0000-000000000000"
PENDING = {"state": {"type": "PENDING"}}
ATTACKS = [
    # read secrets
    ("POST", "/block_documents/filter", {"include_secrets": True}),
    ("GET", f"/block_documents/{ID}?include_secrets=true", None),
    ("GET", "/block_types/slug/vast-credentials/block_documents/name/vast?include_secrets=true", None),
    ("GET", "/variables/name/x", None),
    ("GET", "/admin/settings", None),
    ("GET", "/ui-settings", None),
    # run other code, here or on other boxes
    ("PATCH", f"/deployments/{ID}", {"entrypoint": "evil.py:run"}),
    ("POST", "/deployments/", {"name": "x", "flow_id": ID}),
    ("POST", f"/deployments/{ID}/create_flow_run", {}),
    ("POST", "/flow_runs/", {"flow_id": ID}),
    ("PATCH", "/work_pools/vast-gpu", {"is_paused": True}),
    ("POST", "/work_pools/", {"name": "x", "type": "process"}),
    ("POST", "/block_documents/", {}),
    ("POST", "/automations/", {}),
    # delete, pause, read on
    ("DELETE", f"/deployments/{ID}", None),
    ("DELETE", f"/flow_runs/{ID}", None),
    ("DELETE", "/work_pools/vast-gpu", None),
    ("DELETE", "/work_pools/vast-gpu/workers/box-2", None),
    ("POST", "/admin/database/clear", {"confirm": True}),
    ("POST", f"/deployments/{ID}/pause_deployment", None),
    ("POST", "/deployments/filter", {}),
    ("POST", "/events", []),
    ("POST", "/events/filter", {}),
    ("GET", "/work_pools/control", None),
    ("POST", "/work_pools/control/get_scheduled_flow_runs", {}),
    # pass for a route that is open
    ("GET", f"/flows/{ID}/../../block_documents/{ID}", None),
    ("GET", f"/flows/%2e%2e/block_documents/{ID}", None),
    ("GET", f"/flow_runs/{ID}%2f..%2f..%2fblock_documents", None),
    ("GET", f"//block_documents/{ID}", None),
    ("GET", f"/flows/{ID}?x=/api/health", None),
    ("POST", "/logs/../block_documents/filter", {}),
    ("GET", f"/flow_runs/{ID};/../block_documents", None),
    ("OPTIONS", "/health", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ATTACKS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_stolen_token_is_refused(door, thief, method, path, body):
    """nginx itself refuses, and Prefect's server never hears of it."""
    answer = thief.request(method, f"{door.nginx.api_url}{path}", json=body)
    assert (answer.status_code, "nginx" in answer.text) == (404, True)


@pytest.fixture
def thief(door):
    with door.let_in("stolen") as client:
        yield client


@pytest.fixture
def run_of_other(door, waiting_run):
    """A run that another box has taken and is running."""
    run = waiting_run()
    with door.let_in("honest") as honest:
        assert honest.post(f"/flow_runs/{run}/set_state", json=PENDING).status_code == 201
        assert honest.patch(f"/flow_runs/{run}/labels", json={"prefect.worker.name": "honest"}).status_code == 204
    return run


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/flow_runs/{run}/set_state", {"state": {"type": "CANCELLED"}, "force": True}),
        ("POST", "/flow_runs/{run}/set_state", PENDING),
        ("POST", "/flow_runs/{run}/set_state", {"state": {"type": "SCHEDULED"}, "force": True}),
        ("POST", "/flow_runs/{run}/set_state", []),
        ("PATCH", "/flow_runs/{run}", {"name": "mine"}),
        ("PATCH", "/flow_runs/{run}/labels", {"prefect.worker.name": "stolen"}),
        ("POST", f"/flow_runs/{ID}/set_state", PENDING),
    ],
)
def test_the_run_of_another_box_is_left_alone(door, thief, run_of_other, *, method, path, body):
    """Not moved, not renamed, not taken over."""
    before = door.ask("GET", f"/flow_runs/{run_of_other}")
    assert thief.request(method, path.format(run=run_of_other).removeprefix("/"), json=body).status_code == 403
    after = door.ask("GET", f"/flow_runs/{run_of_other}")
    assert [after[key] for key in ("state", "name", "labels")] == [before[key] for key in ("state", "name", "labels")]


def test_a_waiting_run_may_be_taken_and_nothing_else(door, thief, waiting_run):
    """Before it is taken it cannot be cancelled, renamed or given an environment; after, it is the taker's alone."""
    run = f"/flow_runs/{waiting_run()}"
    for method, path, body in [
        ("POST", f"{run}/set_state", {"state": {"type": "CANCELLED"}}),
        ("PATCH", run, {"name": "mine"}),
        ("PATCH", run, {"job_variables": {"env": {"R2_ENDPOINT_URL": "https://elsewhere.example"}}}),
    ]:
        assert thief.request(method, path.removeprefix("/"), json=body).status_code == 403
    assert thief.post(f"{run}/set_state", json=PENDING).status_code == 201
    assert thief.patch(run, json={"infrastructure_pid": "1"}).status_code == 204
    assert thief.patch(run, json={"name": "x", "parameters": {"size": 1}}).status_code == 403


def test_a_worker_lives_under_its_own_name_alone(door, thief):
    """A heartbeat in another's name would keep a dead worker online."""
    beat = "/work_pools/vast-gpu/workers/heartbeat"
    assert thief.post(beat, json={"name": "honest"}).status_code == 403
    assert thief.post(beat, json={"name": "stolen"}).status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic " + base64.b64encode(b"stolen:guess").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"operator:only-the-server-and-the-gateway-know").decode()},
        {"X-Vfleet-Box": "honest"},
    ],
    ids=["none", "wrong", "the server's own password", "a claim to be a box"],
)
def test_without_a_token_nobody_enters(door, headers):
    """Not even with the server's password: the gateway is for boxes."""
    with door.enter(headers) as stranger:
        assert stranger.get("/health").status_code == 401


def test_a_token_ends_at_its_revocation(door):
    """At the next request, and for a stream that is open within seconds; nothing is reloaded."""
    with door.let_in("box-9") as box:
        assert box.get("/health").status_code == 200
        stream = door.open_events("box-9", "in")  # with a new token: the old one has ended
        assert box.get("/health").status_code == 401
        door.tokens.revoke("box-9")
        with pytest.raises(ConnectionClosed):  # with the reason, if its frame outruns the end
            stream.recv(timeout=30)


def test_a_box_tells_of_itself_alone(door, run_of_other, waiting_run):
    """A false end of another's run, a false heartbeat or an event of any other kind never reaches the server; a true
    word of a box about its own run does."""
    mine, own = uuid4(), waiting_run()
    told = [
        ("prefect.flow-run.Completed", f"prefect.flow-run.{run_of_other}"),
        ("prefect.flow-run.heartbeat", f"prefect.flow-run.{run_of_other}"),
        ("prefect.worker.stopped", "prefect.worker.vast-gpu.honest"),
        ("prefect.automation.deleted", "prefect.automation.x"),
        ("prefect.worker.started", "prefect.worker.vast-gpu.stolen"),
    ]
    with door.open_events("stolen", "in") as stream:
        for name, resource in told:
            event = {
                "id": str(uuid4()),
                "event": name,
                "occurred": "2026-01-01T00:00:00Z",
                "payload": {"by": str(mine)},
            }
            stream.send(json.dumps(event | {"resource": {"prefect.resource.id": resource}, "related": []}))
        stream.send("no event")

    def arrived():
        events = door.ask("POST", "/events/filter", filter={"occurred": {"since": "2025-12-31T00:00:00Z"}})["events"]
        return [event["event"] for event in events if event["payload"].get("by") == str(mine)]

    assert poll_until(lambda: "prefect.worker.started" in arrived(), within_s=30)
    assert arrived() == ["prefect.worker.started"]
    assert door.ask("GET", f"/flow_runs/{own}")["state_name"] == "Scheduled"


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"event": {"name": []}},
        {"event": {"prefix": ["prefect."]}},
        {"event": {"name": ["prefect.block-document.created"]}},
    ],
)
def test_a_box_hears_what_it_waits_for_alone(door, wanted):
    """The stream of events tells everything that happens on a server; a box gets the ends of task runs and wishes to
    cancel."""
    with door.open_events("stolen", "out") as stream:
        stream.send(json.dumps({"type": "filter", "filter": wanted}))
        with pytest.raises(ConnectionClosed, match="not these events"):
            stream.recv(timeout=30)


def test_one_box_cannot_use_up_the_server(door, thief):
    """A box has a rate; past it, it is told to wait, as Prefect's client understands. Others are served."""
    answers = [thief.get("/health").status_code for _ in range(400)]
    assert answers[0] == 200
    assert 429 in answers
    with door.let_in("honest") as honest:
        assert honest.get("/health").status_code == 200


def test_headers_carry_the_credential_that_nginx_reads():
    """Basic, of name and token."""
    header = json.loads(headers_for("box", "t"))["Authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"box:t"

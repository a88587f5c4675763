"""The holder of one box's token can do that box's own work and nothing else."""

import base64
import json
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from websockets.exceptions import ConnectionClosed

from validation.gateway.tokens import headers_for
from validation.local.process import poll_until

pytestmark = [pytest.mark.attack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

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
    ("POST", "/flow_runs/batch", []),
    ("POST", "/flow_runs/bulk_set_state", {}),
    ("POST", "/flow_runs/bulk_delete", {}),
    ("PATCH", f"/flow_runs/{ID}/", {"name": "x"}),
    ("POST", f"/flow_runs/{ID}%2fset_state", {}),
    ("POST", f"/flow_runs/{ID}//set_state", {}),
    ("POST", "/logs//", []),
    ("POST", f"/flow_runs/{ID}/resume", {}),
    ("PATCH", f"/task_runs/{ID}", {}),
    ("POST", f"/task_runs/{ID}/set_state", {}),
    ("POST", "/v2/leases/x", {}),
    ("POST", "/v2/concurrency_limits/increment", {}),
    ("GET", "/events/filter/next?page-token=x", None),
    ("GET", "/logs/out", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ATTACKS, ids=lambda value: value if isinstance(value, str) else "")
def test_closed_routes_are_refused_by_nginx(gateway, attacker, method, path, body):
    """nginx itself refuses; the request never reaches Prefect's server."""
    answer = attacker.request(method, f"{gateway.nginx.api_url}{path}", json=body)
    assert (answer.status_code, "nginx" in answer.text) == (404, True)


@pytest.fixture
def attacker(gateway):
    with gateway.open_client("stolen") as client:
        yield client


@pytest.fixture
def run_of_other(gateway, waiting_run):
    """A run that another box has taken and is running."""
    run = waiting_run()
    with gateway.open_client("honest") as honest:
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
def test_run_of_another_box_cannot_be_changed(gateway, attacker, run_of_other, *, method, path, body):
    """The state, name and owner of another box's run stay as they are."""
    before = gateway.as_operator("GET", f"/flow_runs/{run_of_other}")
    assert attacker.request(method, path.format(run=run_of_other).removeprefix("/"), json=body).status_code == 403
    after = gateway.as_operator("GET", f"/flow_runs/{run_of_other}")
    assert [after[key] for key in ("state", "name", "labels")] == [before[key] for key in ("state", "name", "labels")]


def test_waiting_run_can_only_be_taken(gateway, attacker, waiting_run):
    """Before a box takes a run it cannot cancel, rename or configure it; afterwards only that box can change it."""
    run = f"/flow_runs/{waiting_run()}"
    for method, path, body in [
        ("POST", f"{run}/set_state", {"state": {"type": "CANCELLED"}}),
        ("POST", f"{run}/set_state", PENDING | {"force": True}),  # it would also take what was taken a moment ago
        ("POST", f"{run}/set_state", PENDING | {"force": "yes"}),
        ("PATCH", run, {"name": "mine"}),
        ("PATCH", run, {"job_variables": {"env": {"R2_ENDPOINT_URL": "https://elsewhere.example"}}}),
    ]:
        assert attacker.request(method, path.removeprefix("/"), json=body).status_code == 403
    assert attacker.post(f"{run}/set_state", json=PENDING).status_code == 201
    assert attacker.patch(run, json={"infrastructure_pid": "1"}).status_code == 204
    assert attacker.patch(run, json={"name": "x", "parameters": {"size": 1}}).status_code == 403
    foreign = {"type": "SCHEDULED", "data": {"foreign": "data"}, "state_details": {"deferred": True}}
    for path, body in [
        (f"{run}/set_state", {"state": foreign}),
        (f"{run}/set_state", {"state": foreign, "force": True}),
        (run, {"empirical_policy": {"retries": 3, "retry_delay": 0}}),
    ]:  # no way leads it back into the queue, where an honest box would take it
        method = "PATCH" if path == run else "POST"
        assert attacker.request(method, path.removeprefix("/"), json=body).status_code == 403
    assert gateway.as_operator("GET", run)["state_type"] == "PENDING"


def test_runs_of_the_control_machine_belong_to_no_box(gateway, attacker, waiting_run):
    """Ending dispatch, sweep or reconcile runs would stop the fleet; a box named like the control worker may not."""
    run = waiting_run("dispatch-chunks")
    assert attacker.post(f"/flow_runs/{run}/set_state", json=PENDING).status_code == 403
    gateway.as_operator("POST", f"/flow_runs/{run}/set_state", **PENDING)
    gateway.as_operator("PATCH", f"/flow_runs/{run}/labels", **{"prefect.worker.name": "control-1"})
    with gateway.open_client("control-1") as namesake:
        answer = namesake.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLED"}})
    assert answer.status_code == 403
    assert gateway.as_operator("GET", f"/flow_runs/{run}")["state_type"] == "PENDING"


@pytest.mark.parametrize(
    "search",
    [
        {},
        {"work_pools": {"name": {"any_": ["control"]}}},
        {"flow_runs": {"id": {"not_any_": [ID]}}},
        {"flow_runs": {"id": {"any_": [ID] * 101}}},
    ],
)
def test_search_must_name_its_runs(attacker, search):
    """A worker needs no list of what runs on the server."""
    assert attacker.post("/flow_runs/filter", json=search).status_code == 403


def test_search_finds_only_own_runs(attacker, run_of_other, waiting_run):
    """Workers search for cancellations; other boxes' runs are left out, however the search is written."""
    own = waiting_run()
    assert attacker.post(f"/flow_runs/{own}/set_state", json=PENDING).status_code == 201
    named = {"id": {"any_": [own, run_of_other, waiting_run("dispatch-chunks")]}}
    for search in (named, named | {"operator": "or_", "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}):
        answer = attacker.post("/flow_runs/filter", json={"flow_runs": search})
        assert [found["id"] for found in answer.json()] == [own]


def test_heartbeat_is_accepted_only_under_the_boxs_name(gateway, attacker):
    """A heartbeat under another name would keep a dead worker online."""
    beat = "/work_pools/vast-gpu/workers/heartbeat"
    assert attacker.post(beat, json={"name": "honest"}).status_code == 403
    assert attacker.post(beat, json={"name": "stolen"}).status_code == 204


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
def test_request_without_a_valid_token_is_refused(gateway, headers):
    """The server's own password is refused as well: the gateway accepts box tokens only."""
    with gateway.open_client_with(headers) as stranger:
        assert stranger.get("/health").status_code == 401


def test_revoked_token_is_refused_at_once(gateway):
    """The next request is refused and an open stream ends within seconds, without a reload."""
    with gateway.open_client("box-9") as box:
        assert box.get("/health").status_code == 200
        stream = gateway.open_events("box-9", "in")  # with a new token: the old one has ended
        assert box.get("/health").status_code == 401
        gateway.tokens.revoke("box-9")
        with pytest.raises(ConnectionClosed):  # with the reason, if its frame outruns the end
            stream.recv(timeout=30)


def test_box_publishes_only_events_about_itself(gateway, run_of_other, waiting_run):
    """A false end or heartbeat of another box's run, or an event of another kind, never reaches the server; a box's own
    does."""
    mine, own = uuid4(), waiting_run()
    sent = [
        ("prefect.flow-run.Completed", f"prefect.flow-run.{run_of_other}"),
        ("prefect.flow-run.heartbeat", f"prefect.flow-run.{run_of_other}"),
        ("prefect.worker.stopped", "prefect.worker.vast-gpu.honest"),
        ("prefect.automation.deleted", "prefect.automation.x"),
        ("prefect.worker.started", "prefect.worker.vast-gpu.stolen"),
    ]
    with gateway.open_events("stolen", "in") as stream:
        for name, resource in sent:
            event = {
                "id": str(uuid4()),
                "event": name,
                "occurred": "2026-01-01T00:00:00Z",
                "payload": {"by": str(mine)},
            }
            stream.send(json.dumps(event | {"resource": {"prefect.resource.id": resource}, "related": []}))
        stream.send("no event")

    def arrived():
        day = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00Z"}  # a page holds the latest fifty alone
        events = gateway.as_operator("POST", "/events/filter", filter={"occurred": day})["events"]
        return [event["event"] for event in events if event["payload"].get("by") == str(mine)]

    assert poll_until(lambda: "prefect.worker.started" in arrived(), within_s=30)
    assert arrived() == ["prefect.worker.started"]
    assert gateway.as_operator("GET", f"/flow_runs/{own}")["state_name"] == "Scheduled"


TASK_RUN = {"task_key": "score", "tags": [], "task_inputs": {}, "run_count": 1}


def task_run_event(task_run, run, *, name, state="Running", related=True, **payload):
    """What a flow run says of a task run as it moves on, as Prefect's engine says it; `payload` overrules."""
    beside = {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}
    event = {
        "id": str(uuid4()),
        "event": f"prefect.task-run.{state}",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.task-run.{task_run}", "prefect.orchestration": "client"},
        "related": [beside] if related else [],
        "payload": {
            "validated_state": {"type": state.upper(), "name": state},
            "task_run": {**TASK_RUN, "dynamic_key": str(task_run), "name": name, **payload},
        },
    }
    return json.dumps(event)


@pytest.fixture
def running(gateway, waiting_run):
    """Makes runs that a box has taken."""

    def take(box):
        run = waiting_run()
        with gateway.open_client(box) as client:
            assert client.post(f"/flow_runs/{run}/set_state", json=PENDING).status_code == 201
        return run

    return take


def names_of_task_runs(gateway, run):
    return [
        found["name"] for found in gateway.as_operator("POST", "/task_runs/filter", flow_runs={"id": {"any_": [run]}})
    ]


def test_box_publishes_only_its_own_task_runs(gateway, running):
    """The server creates task runs from events and lets the payload override the resources, so payloads with ids are
    refused."""
    theirs, own = running("honest"), running("stolen")
    victim, mine = uuid4(), uuid4()
    with gateway.open_events("honest", "in") as stream:
        stream.send(task_run_event(victim, theirs, name="true"))
    assert poll_until(lambda: names_of_task_runs(gateway, theirs) == ["true"], within_s=60)
    with gateway.open_events("stolen", "in") as stream:
        stream.send(task_run_event(victim, theirs, name="false"))
        stream.send(task_run_event(victim, own, name="false", related=False))
        stream.send(task_run_event(victim, own, name="false"))
        stream.send(task_run_event(uuid4(), own, name="false", id=str(victim)))
        stream.send(task_run_event(uuid4(), own, name="false", flow_run_id=theirs, dynamic_key=str(victim)))
        stream.send(task_run_event(mine, own, name="true"))
    assert poll_until(lambda: names_of_task_runs(gateway, own) != [], within_s=60)
    assert (names_of_task_runs(gateway, own), names_of_task_runs(gateway, theirs)) == (["true"], ["true"])


@contextmanager
def subscribed(gateway, token, names):
    """A stream of events of these names, from a minute ago on, as Prefect's client asks for it."""
    now, lasting = datetime.now(UTC), timedelta(minutes=1)
    times = {"since": (now - lasting).isoformat(), "until": (now + 60 * lasting).isoformat()}
    with gateway.open_events("stolen", "out", token=token) as stream:
        stream.send(json.dumps({"type": "filter", "filter": {"event": {"name": names}, "occurred": times}}))
        yield stream


def test_box_receives_only_events_of_its_own_task_runs(gateway, running):
    """Events of other boxes' task runs carry ids that could be used to forge events."""
    theirs, own = running("honest"), running("stolen")
    token = gateway.tokens.add("stolen")
    with subscribed(gateway, token, ["prefect.task-run.Completed"]) as stream:
        with gateway.open_events("honest", "in") as honest:
            honest.send(task_run_event(uuid4(), theirs, name="theirs", state="Completed"))
        assert poll_until(lambda: names_of_task_runs(gateway, theirs) == ["theirs"], within_s=60)
        with gateway.open_events("stolen", "in", token=token) as sent:
            sent.send(task_run_event(uuid4(), own, name="own", state="Completed"))
            received = json.loads(stream.recv(timeout=60))["event"]
    assert received["payload"]["task_run"]["name"] == "own"


def test_box_receives_the_cancellation_of_its_own_run(gateway, running):
    """A box receives the cancellation of its own run and of no other box's run."""
    theirs, own = running("honest"), running("stolen")
    for run in (theirs, own):
        gateway.as_operator("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"}, force=True)

    received = []

    def receive():
        token = gateway.tokens.add("stolen")
        with subscribed(gateway, token, ["prefect.flow-run.Cancelling"]) as stream, suppress(TimeoutError):
            received.append(json.loads(stream.recv(timeout=5))["event"]["resource"]["prefect.resource.id"])
        return received != []

    assert poll_until(receive, within_s=60)
    assert received == [f"prefect.flow-run.{own}"]


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"event": {"name": []}},
        {"event": {"prefix": ["prefect."]}},
        {"event": {"name": ["prefect.block-document.created"]}},
    ],
)
def test_subscription_to_other_events_is_refused(gateway, wanted):
    """A box may subscribe to the ends of task runs and to cancellations."""
    with gateway.open_events("stolen", "out") as stream:
        stream.send(json.dumps({"type": "filter", "filter": wanted}))
        with pytest.raises(ConnectionClosed, match="not these events"):
            stream.recv(timeout=30)


def test_rate_limit_is_per_box(gateway):
    """Beyond its rate a box gets 429, on which Prefect's client waits; other boxes are served."""
    with gateway.open_client("greedy") as greedy:
        answers = [greedy.get("/health").status_code for _ in range(400)]
    assert answers[0] == 200
    assert 429 in answers
    with gateway.open_client("honest") as honest:
        assert honest.get("/health").status_code == 200


def test_rate_limit_ignores_the_spelling_of_the_credential(gateway):
    """Extra spaces in the header do not make another box."""
    token = json.loads(headers_for("wordy", gateway.tokens.add("wordy")))["Authorization"].removeprefix("Basic ")
    with gateway.open_client_with({}) as wordy:
        spellings = [{"Authorization": f"Basic {' ' * n}{token}"} for n in range(400)]
        answers = [wordy.get("/health", headers=headers).status_code for headers in spellings]
    assert answers[0] == 200
    assert 429 in answers


def test_headers_carry_basic_authentication():
    """Basic, of box name and token."""
    header = json.loads(headers_for("box", "t"))["Authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"box:t"

"""What somebody can do with the token of one box: nothing but that box's own work."""

import base64
import json
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
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
        ("POST", f"{run}/set_state", PENDING | {"force": True}),  # it would also take what was taken a moment ago
        ("POST", f"{run}/set_state", PENDING | {"force": "yes"}),
        ("PATCH", run, {"name": "mine"}),
        ("PATCH", run, {"job_variables": {"env": {"R2_ENDPOINT_URL": "https://elsewhere.example"}}}),
    ]:
        assert thief.request(method, path.removeprefix("/"), json=body).status_code == 403
    assert thief.post(f"{run}/set_state", json=PENDING).status_code == 201
    assert thief.patch(run, json={"infrastructure_pid": "1"}).status_code == 204
    assert thief.patch(run, json={"name": "x", "parameters": {"size": 1}}).status_code == 403


def test_the_control_planes_runs_are_no_boxs(door, thief, waiting_run):
    """Whoever ended those that dispatch, sweep and rent would stop the fleet. Not even a box that bears the name of the
    control plane's worker may."""
    run = waiting_run("dispatch-chunks")
    assert thief.post(f"/flow_runs/{run}/set_state", json=PENDING).status_code == 403
    door.ask("POST", f"/flow_runs/{run}/set_state", **PENDING)
    door.ask("PATCH", f"/flow_runs/{run}/labels", **{"prefect.worker.name": "control-1"})
    with door.let_in("control-1") as namesake:
        answer = namesake.post(f"/flow_runs/{run}/set_state", json={"state": {"type": "CANCELLED"}})
    assert answer.status_code == 403
    assert door.ask("GET", f"/flow_runs/{run}")["state_type"] == "PENDING"


@pytest.mark.parametrize(
    "search",
    [
        {},
        {"work_pools": {"name": {"any_": ["control"]}}},
        {"flow_runs": {"id": {"not_any_": [ID]}}},
        {"flow_runs": {"id": {"any_": [ID] * 101}}},
    ],
)
def test_a_box_searches_for_runs_that_it_names_alone(thief, search):
    """A list of what runs on the server is nothing that a worker needs."""
    assert thief.post("/flow_runs/filter", json=search).status_code == 403


def test_a_box_finds_its_own_runs_alone(thief, run_of_other, waiting_run):
    """As its worker looks for a wish to cancel; others' are left out, however the search is put."""
    own = waiting_run()
    assert thief.post(f"/flow_runs/{own}/set_state", json=PENDING).status_code == 201
    named = {"id": {"any_": [own, run_of_other, waiting_run("dispatch-chunks")]}}
    for search in (named, named | {"operator": "or_", "state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}):
        answer = thief.post("/flow_runs/filter", json={"flow_runs": search})
        assert [found["id"] for found in answer.json()] == [own]


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
        day = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T01:00:00Z"}  # a page holds the latest fifty alone
        events = door.ask("POST", "/events/filter", filter={"occurred": day})["events"]
        return [event["event"] for event in events if event["payload"].get("by") == str(mine)]

    assert poll_until(lambda: "prefect.worker.started" in arrived(), within_s=30)
    assert arrived() == ["prefect.worker.started"]
    assert door.ask("GET", f"/flow_runs/{own}")["state_name"] == "Scheduled"


TASK_RUN = {"task_key": "score", "tags": [], "task_inputs": {}, "run_count": 1}


def tell_of(task_run, run, *, name, state="Running", related=True, **payload):
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
def running(door, waiting_run):
    """Makes runs that a box has taken."""

    def take(box):
        run = waiting_run()
        with door.let_in(box) as client:
            assert client.post(f"/flow_runs/{run}/set_state", json=PENDING).status_code == 201
        return run

    return take


def names_of_task_runs(door, run):
    return [found["name"] for found in door.ask("POST", "/task_runs/filter", flow_runs={"id": {"any_": [run]}})]


def test_a_box_tells_of_its_own_task_runs_alone(door, running):
    """Prefect's server makes a task run of what an event says of it, and believes its payload last: whose it is must
    stand where the gateway looks, and its id must be no other's."""
    theirs, own = running("honest"), running("stolen")
    victim, mine = uuid4(), uuid4()
    with door.open_events("honest", "in") as stream:
        stream.send(tell_of(victim, theirs, name="true"))
    assert poll_until(lambda: names_of_task_runs(door, theirs) == ["true"], within_s=60)
    with door.open_events("stolen", "in") as stream:
        stream.send(tell_of(victim, theirs, name="false"))
        stream.send(tell_of(victim, own, name="false", related=False))
        stream.send(tell_of(victim, own, name="false"))
        stream.send(tell_of(uuid4(), own, name="false", id=str(victim)))
        stream.send(tell_of(uuid4(), own, name="false", flow_run_id=theirs, dynamic_key=str(victim)))
        stream.send(tell_of(mine, own, name="true"))
    assert poll_until(lambda: names_of_task_runs(door, own) != [], within_s=60)
    assert (names_of_task_runs(door, own), names_of_task_runs(door, theirs)) == (["true"], ["true"])


@contextmanager
def listening(door, token, names):
    """A stream of events of these names, from a minute ago on, as Prefect's client asks for it."""
    now, lasting = datetime.now(UTC), timedelta(minutes=1)
    times = {"since": (now - lasting).isoformat(), "until": (now + 60 * lasting).isoformat()}
    with door.open_events("stolen", "out", token=token) as stream:
        stream.send(json.dumps({"type": "filter", "filter": {"event": {"name": names}, "occurred": times}}))
        yield stream


def test_a_box_hears_of_its_own_task_runs_alone(door, running):
    """The ends of others' task runs carry their ids, with which somebody could tell lies of them."""
    theirs, own = running("honest"), running("stolen")
    token = door.tokens.add("stolen")
    with listening(door, token, ["prefect.task-run.Completed"]) as stream:
        with door.open_events("honest", "in") as honest:
            honest.send(tell_of(uuid4(), theirs, name="theirs", state="Completed"))
        assert poll_until(lambda: names_of_task_runs(door, theirs) == ["theirs"], within_s=60)
        with door.open_events("stolen", "in", token=token) as told:
            told.send(tell_of(uuid4(), own, name="own", state="Completed"))
            heard = json.loads(stream.recv(timeout=60))["event"]
    assert heard["payload"]["task_run"]["name"] == "own"


def test_a_box_hears_of_the_wish_to_cancel_its_run(door, running):
    """And of no other's."""
    theirs, own = running("honest"), running("stolen")
    for run in (theirs, own):
        door.ask("POST", f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"}, force=True)

    heard = []

    def hear():
        token = door.tokens.add("stolen")
        with listening(door, token, ["prefect.flow-run.Cancelling"]) as stream, suppress(TimeoutError):
            heard.append(json.loads(stream.recv(timeout=5))["event"]["resource"]["prefect.resource.id"])
        return heard != []

    assert poll_until(hear, within_s=60)
    assert heard == [f"prefect.flow-run.{own}"]


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


def test_one_box_cannot_use_up_the_server(door):
    """A box has a rate; past it, it is told to wait, as Prefect's client understands. Others are served."""
    with door.let_in("greedy") as greedy:
        answers = [greedy.get("/health").status_code for _ in range(400)]
    assert answers[0] == 200
    assert 429 in answers
    with door.let_in("honest") as honest:
        assert honest.get("/health").status_code == 200


def test_a_box_has_one_rate_however_it_spells_its_credential(door):
    """Any number of spaces before it makes no other box of it."""
    token = json.loads(headers_for("wordy", door.tokens.add("wordy")))["Authorization"].removeprefix("Basic ")
    with door.enter({}) as wordy:
        spellings = [{"Authorization": f"Basic {' ' * n}{token}"} for n in range(400)]
        answers = [wordy.get("/health", headers=headers).status_code for headers in spellings]
    assert answers[0] == 200
    assert 429 in answers


def test_headers_carry_the_credential_that_nginx_reads():
    """Basic, of name and token."""
    header = json.loads(headers_for("box", "t"))["Authorization"]
    assert base64.b64decode(header.removeprefix("Basic ")) == b"box:t"

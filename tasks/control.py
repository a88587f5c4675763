"""What the control flows ask of Prefect and of the core."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Crashed
from prefect.types._datetime import now

from validation.control.dispatch import plan_runs
from validation.control.sweep import SweepReport
from validation.domain import Seconds
from validation.ledger.maintenance import SweptChunk
from validation.ledger.queries import OpenChunk, RecentlyClosedChunk, WorkerSession, Workload

LeasedChunk: TypeAlias = OpenChunk | RecentlyClosedChunk

CHUNK_DEPLOYMENT = "validate-chunk"
CONTROL_DEPLOYMENTS = ("dispatch-chunks", "sweep-stale-claims", "reconcile-fleet", "report-progress")
MIN_RUN_AGE = timedelta(minutes=10)
"""A run whose worker lives is believed for so long without a chunk: it may wait five minutes for its model host, or for
a slow machine to start its process. Most that die are known sooner: their worker says so, or dies with them."""
CONTROL_ENDED_AFTER = timedelta(minutes=3)
"""Control runs take seconds, and no ledger knows their worker."""
CLOCKS_AGREE_WITHIN = timedelta(seconds=10)
"""A run's state is dated by the box that it runs on, the life of a worker by the database."""
WORKER_LABEL = "prefect.worker.name"
"""The label by which Prefect tells which worker took a run."""
ALIVE = (StateType.RUNNING, StateType.PENDING)
PAGE = 200
"""Flow runs a request: the server's own limit."""

QUICK: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 1, "cache_policy": NO_CACHE}
"""A control flow comes again in seconds: it does not wait long for a server that is away."""
SHORT_TIMEOUT: Mapping[Any, Any] = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 5.0}
"""How the sweep asks: by its default the client would try for a minute to reach a server that is away."""


def ask_ended_runs(chunks: Sequence[OpenChunk]) -> dict[UUID, Seconds]:
    """``find_ended_runs``, and nothing where Prefect cannot be asked: then only the clock decides."""
    ended = find_ended_runs(chunks, return_state=True)
    if ended.is_completed():
        return ended.result()
    get_run_logger().warning("Prefect cannot be asked, so only the clock decides: %s", ended.message)
    return {}


@task(name="find-ended-runs", cache_policy=NO_CACHE)
def find_ended_runs(chunks: Sequence[OpenChunk]) -> dict[UUID, Seconds]:
    """Which of the flow runs that hold chunks have ended, and how long ago.

    Not those that Prefect does not know: it may be another Prefect than theirs, or one that lost its database.
    """
    holders = [chunk.flow_run_id for chunk in chunks if chunk.flow_run_id]
    with temporary_settings(SHORT_TIMEOUT):
        pages = [read_runs(ids=holders[start : start + PAGE]) for start in range(0, len(holders), PAGE)]
    return {
        run.id: (now("UTC") - run.state.timestamp).total_seconds()
        for page in pages
        for run in page
        if run.state is not None and run.state.is_final()
    }


@task(name="tell-prefect", cache_policy=NO_CACHE)
def reconcile_flow_runs(
    swept: Sequence[SweptChunk], held: Sequence[LeasedChunk], lives: Sequence[WorkerSession]
) -> list[str]:
    """Make Prefect's states true: runs without a process are Crashed, runs that nobody will poll again are put back.

    Args:
        swept: chunks that were just taken back; their runs, if Prefect believes them alive, are not.
        held: chunks with a living lease, or closed so lately that their runs may not have told it yet.
        lives: the workers; what one took in an earlier life died with that.
    """
    told = []
    with temporary_settings(SHORT_TIMEOUT), get_client(sync_client=True) as client:
        for run in read_runs(states=ALIVE):
            truth = correct_state(
                run,
                is_lost=any(is_of_run(chunk, run, lives) for chunk in swept),
                is_holding=any(is_of_run(chunk, run, lives) for chunk in held),
                is_orphan=outlived_worker(run, lives),
            )
            if truth is not None and correct(client, run, truth):
                told.append(f"{run.name}: {truth.name}")
        for run in read_runs(states=ALIVE, deployments=CONTROL_DEPLOYMENTS):
            truth = Crashed(message="Its process is gone: it takes seconds.")
            if is_older(run, CONTROL_ENDED_AFTER) and correct(client, run, truth):
                told.append(f"{run.name}: Crashed")
    return told


def correct(client: SyncPrefectClient, run: FlowRun, truth: State[Any]) -> bool:
    """Set a run's state unless it has told another one meanwhile, without force: what has ended stays as it ended."""
    state = client.read_flow_run(run.id).state
    if state is None or run.state is None or state.id != run.state.id:
        return False
    return client.set_flow_run_state(run.id, truth).status == SetStateStatus.ACCEPT


def is_older(run: FlowRun, age: timedelta) -> bool:
    return run.state is not None and now("UTC") - run.state.timestamp > age


def is_of_run(chunk: LeasedChunk | SweptChunk, run: FlowRun, lives: Sequence[WorkerSession]) -> bool:
    """Whether a run held a chunk: what a box says of a run that another worker took is not believed."""
    taker = run.labels.get(WORKER_LABEL)
    return chunk.flow_run_id == run.id and not any(
        life.worker_id == chunk.worker_id and taker and life.prefect_worker not in {None, taker} for life in lives
    )


def outlived_worker(run: FlowRun, lives: Sequence[WorkerSession]) -> bool:
    """Whether the worker that took a run is silent or has ended, or lives another life: flow processes end with theirs.

    Any box may say that Prefect knows it by that name: while one of those that say so lives on, so may the run.
    """
    if run.state is None:
        return False
    taken_at, taker = run.state.timestamp, run.labels.get(WORKER_LABEL)
    named = [life for life in lives if taker and life.prefect_worker == taker]
    return bool(named) and all(
        life.status in {"stale", "offline"} or life.started_at > taken_at + CLOCKS_AGREE_WITHIN for life in named
    )


def correct_state(run: FlowRun, *, is_lost: bool, is_holding: bool, is_orphan: bool = False) -> State[Any] | None:
    """Which state a run that Prefect believes alive should have instead, None if it may well be alive."""
    if run.state is None:
        return None
    is_old = is_older(run, MIN_RUN_AGE)
    if run.state.type == StateType.PENDING:
        stuck = is_orphan or is_old
        return AwaitingRetry(message="PENDING too long: the worker that took it is gone.") if stuck else None
    if not is_holding and (is_lost or is_orphan or is_old):
        return Crashed(message="Its process is gone: the sweeper took back what it held.")
    return None


@task(name="create-runs", task_run_name="create runs", **QUICK)
def create_runs(workload: Workload, *, chunk_videos: int) -> int:
    """Create as many runs as the workload calls for. Returns how many."""
    active = read_runs(states=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
    count = plan_runs(workload, active_runs=len(active), chunk_videos=chunk_videos)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{CHUNK_DEPLOYMENT}/{CHUNK_DEPLOYMENT}")
        for _ in range(count):
            client.create_flow_run_from_deployment(deployment.id)
    return count


def publish_report(report: SweepReport, told: Sequence[str]) -> None:
    """Leave an artifact that says what a sweep did; none where it did nothing."""
    rows = [
        {"what": "chunk taken back", "which": str(chunk.chunk_id), "why": f"{chunk.worker_id}: {chunk.reason}",
         "videos": f"{chunk.videos_returned} returned, {chunk.videos_failed} failed"}
        for chunk in report.swept
    ]  # fmt: skip
    rows += [
        {"what": "chunk is locked", "which": str(chunk.chunk_id), "why": f"{chunk.worker_id}: a call that does not end"}
        for chunk in report.locked
    ]
    rows += [{"what": "step failed", "why": failure} for failure in report.failures]
    rows += [{"what": "worker is stale", "which": worker} for worker in report.stale_workers]
    rows += [{"what": "orphan deleted", "which": key} for key in report.orphans]
    rows += [{"what": "flow run corrected", "which": sentence} for sentence in told]
    rows += [
        {"what": "canary is wrong", "which": canary.video_id, "why": f"{canary.worker_id}: {canary.finding}"}
        for canary in report.evaluated
        if canary.outcome == "wrong"
    ]
    if report.stranded_videos:
        rows.append({"what": "stranded videos returned", "which": str(report.stranded_videos)})
    if rows:
        create_table_artifact(rows, key="sweep", description="What the sweeper did.")


def read_runs(
    *,
    ids: Sequence[UUID] | None = None,
    states: Sequence[StateType] | None = None,
    deployments: Sequence[str] = (CHUNK_DEPLOYMENT,),
) -> list[FlowRun]:
    """Read runs by id, or those of some deployments by state, all pages."""
    chosen = FlowRunFilter(
        id=FlowRunFilterId(any_=list(ids)) if ids is not None else None,
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))) if states else None,
    )
    ours = DeploymentFilter(name=DeploymentFilterName(any_=list(deployments))) if states else None
    runs: list[FlowRun] = []
    with get_client(sync_client=True) as client:
        while page := client.read_flow_runs(
            flow_run_filter=chosen, deployment_filter=ours, limit=PAGE, offset=len(runs)
        ):
            runs += page
            if len(page) < PAGE:
                break
    return runs

"""What the control flows ask of Prefect and of the core."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Crashed
from prefect.types._datetime import now

from validation.control.canaries import JudgedCanary
from validation.control.dispatch import plan_runs
from validation.control.sweep import SweepReport
from validation.ledger.protocol import SweptChunk
from validation.ledger.views import OpenChunk, WorkerLife, Workload

CHUNK_DEPLOYMENT = "validate-chunk"
CONTROL_DEPLOYMENTS = ("dispatch-chunks", "sweep-stale-claims", "reconcile-fleet", "report-progress")
STUCK_PENDING = timedelta(minutes=3)
"""No poll offers a run again once it is PENDING, so one whose worker died then would wait for ever."""
ZOMBIE_AFTER = timedelta(minutes=3)
"""A run that has been RUNNING for so long holds a chunk, unless its process is gone: models load in seconds."""
CLOCKS_AGREE_WITHIN = timedelta(seconds=10)
"""A run's state is dated by the box that it runs on, the life of a worker by the database."""
WORKER_LABEL = "prefect.worker.name"
"""The label by which Prefect tells which worker took a run."""
PAGE = 200
"""Flow runs a request: the server's own limit."""

QUICK: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 1, "cache_policy": NO_CACHE}
"""A control flow comes again in seconds: it does not wait long for a server that is away."""


@task(name="find-ended-runs", **QUICK)
def find_ended_runs(chunks: Sequence[OpenChunk]) -> list[UUID]:
    """Which of the flow runs that hold chunks have ended, or do not exist any more."""
    holders = [chunk.flow_run_id for chunk in chunks if chunk.flow_run_id]
    found = {
        run.id: run for start in range(0, len(holders), PAGE) for run in read_runs(ids=holders[start : start + PAGE])
    }
    return [run_id for run_id in holders if run_id not in found or is_over(found[run_id])]


@task(name="tell-prefect", **QUICK)
def tell_prefect(swept: Sequence[SweptChunk], held: Sequence[OpenChunk], lives: Sequence[WorkerLife]) -> list[str]:
    """Make Prefect's states true: runs without a process are Crashed, runs that nobody will poll again are put back.

    Args:
        swept: chunks that were just taken back; their runs, if Prefect believes them alive, are not.
        held: chunks with a living lease.
        lives: the workers; what one took in an earlier life died with that.
    """
    told = []
    with get_client(sync_client=True) as client:
        for run in read_runs(states=[StateType.RUNNING, StateType.PENDING]):
            truth = correct_state(
                run,
                is_lost=any(is_of_run(chunk, run, lives) for chunk in swept),
                is_holding=any(is_of_run(chunk, run, lives) for chunk in held),
                is_orphan=outlived_worker(run, lives),
            )
            if truth is not None:
                client.set_flow_run_state(run.id, truth, force=True)
                told.append(f"{run.name}: {truth.name}")
        for run in read_runs(states=[StateType.RUNNING, StateType.PENDING], deployments=CONTROL_DEPLOYMENTS):
            if run.state is not None and now("UTC") - run.state.timestamp > ZOMBIE_AFTER:
                client.set_flow_run_state(run.id, Crashed(message="Its process is gone: it takes seconds."), force=True)
                told.append(f"{run.name}: Crashed")
    return told


def is_of_run(chunk: OpenChunk | SweptChunk, run: FlowRun, lives: Sequence[WorkerLife]) -> bool:
    """Whether a run held a chunk: what a box says of a run that another worker took is not believed."""
    taker = run.labels.get(WORKER_LABEL)
    return chunk.flow_run_id == run.id and not any(
        life.worker_id == chunk.worker_id and taker and life.prefect_worker not in {None, taker} for life in lives
    )


def outlived_worker(run: FlowRun, lives: Sequence[WorkerLife]) -> bool:
    """Whether the worker that took a run has ended since, or lives another life: flow processes end with theirs.

    Any box may say that Prefect knows it by that name: while one of those that say so lives on, so may the run.
    """
    if run.state is None:
        return False
    taken_at, taker = run.state.timestamp, run.labels.get(WORKER_LABEL)
    named = [life for life in lives if taker and life.prefect_worker == taker]
    return bool(named) and all(
        life.status == "offline" or life.started_at > taken_at + CLOCKS_AGREE_WITHIN for life in named
    )


def correct_state(run: FlowRun, *, is_lost: bool, is_holding: bool, is_orphan: bool = False) -> State[Any] | None:
    """Which state a run that Prefect believes alive should have instead, None if it may well be alive."""
    if run.state is None:
        return None
    since = now("UTC") - run.state.timestamp
    if run.state.type == StateType.PENDING:
        stuck = is_orphan or since > STUCK_PENDING
        return AwaitingRetry(message="PENDING too long: the worker that took it is gone.") if stuck else None
    if not is_holding and (is_lost or is_orphan or since > ZOMBIE_AFTER):
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


def leave_report(report: SweepReport, told: Sequence[str], judged: Sequence[JudgedCanary] = ()) -> None:
    """Leave an artifact that says what a sweep did; none where it did nothing."""
    rows = [
        {"what": "chunk taken back", "which": str(chunk.chunk_id), "why": f"{chunk.worker_id}: {chunk.reason}",
         "videos": f"{chunk.videos_returned} returned, {chunk.videos_failed} failed"}
        for chunk in report.swept
    ]  # fmt: skip
    rows += [{"what": "worker is silent", "which": worker} for worker in report.silent_workers]
    rows += [{"what": "orphan deleted", "which": key} for key in report.orphans]
    rows += [{"what": "flow run corrected", "which": sentence} for sentence in told]
    rows += [
        {"what": "canary is wrong", "which": canary.video_id, "why": f"{canary.worker_id}: {canary.finding}"}
        for canary in judged
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


def is_over(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final()

"""Tasks of the control flows: read, correct and create flow runs in Prefect, and run the steps that are due."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
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
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed
from prefect.types._datetime import now

from validation.control.dispatch import CHUNK_DEPLOYMENT, CONTROL_DEPLOYMENT, CONTROL_DEPLOYMENTS, plan_runs
from validation.control.sweep import SweepReport
from validation.domain import Seconds
from validation.escape import for_log, for_markdown
from validation.ledger.maintenance import SweptChunk
from validation.ledger.queries import OpenChunk, RecentlyClosedChunk, WorkerSession, Workload

LoggerLike: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"
HeldChunk: TypeAlias = OpenChunk | RecentlyClosedChunk

MIN_RUN_AGE = timedelta(minutes=10)
"""Minimum age of a run without a chunk whose state is corrected although its worker is alive.

A younger run may wait five minutes for the inference server, or for a slow machine to start the flow process. Most dead
runs are found earlier, because their worker is stale or offline."""
MAX_CONTROL_RUN_AGE = timedelta(minutes=15)
"""Age from which an active control run counts as dead. A control run takes seconds, or minutes while it rents many
boxes. The age decides because the worker of the control machine has no row in the ledger. After the death of a control
run's process, the concurrency limit admits another run within 30 s."""
MAX_CLOCK_SKEW = timedelta(seconds=10)
"""Maximum difference of two clocks: a box dates the states of its flow runs, the database dates worker sessions."""
WORKER_LABEL = "prefect.worker.name"
"""The label of a flow run that holds the name of the Prefect worker that took the run."""
ALIVE = (StateType.RUNNING, StateType.PENDING)
"""The states of a flow run that a worker has taken and that has not ended."""
PAGE = 200
"""Flow runs per request; Prefect's server allows no more."""

TASK_OPTIONS: dict[str, Any] = {"retries": 2, "retry_delay_seconds": 1, "cache_policy": NO_CACHE}
"""Options of a control task: few and short retries, because the next control run begins within two minutes."""
SHORT_TIMEOUT: Mapping[Any, Any] = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 5.0}
"""Settings of Prefect's client during a sweep: no retries and a timeout of 5 s. By default it retries for a minute."""


def ask_ended_runs(chunks: Sequence[OpenChunk]) -> dict[UUID, Seconds]:
    """Return the ended flow runs of chunks: flow run id -> seconds since the end. Empty if Prefect does not answer."""
    ended = find_ended_runs(chunks, return_state=True)
    if ended.is_completed():
        return ended.result()
    get_run_logger().warning("Prefect does not answer, so only the clock decides: %s", ended.message)
    return {}


@task(name="find-ended-runs", cache_policy=NO_CACHE)
def find_ended_runs(chunks: Sequence[OpenChunk]) -> dict[UUID, Seconds]:
    """Return the flow runs of these chunks that have ended: flow run id -> seconds since the end.

    Runs that Prefect does not know are left out: they may belong to another server, or the server lost its database.
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


@task(name="reconcile-flow-runs", cache_policy=NO_CACHE)
def reconcile_flow_runs(
    swept: Sequence[HeldChunk | SweptChunk], held: Sequence[HeldChunk], sessions: Sequence[WorkerSession]
) -> list[str]:
    """Mark flow runs without a process Crashed in Prefect, control runs included. Dispatch creates new runs.

    A run that a box took and never started is not put back into the queue. Another box would take the run with the
    name, the labels and the state that the first box wrote.

    Args:
        swept: chunks that were taken back within the last hour; their runs that are still active in Prefect are dead.
        held: open chunks, and chunks that were closed so recently that their runs may not have reported the end.
        sessions: the current session of each worker; runs that an earlier session took ended with that session.

    Returns:
        One line per corrected run, with its name and its new state.
    """
    corrections = []
    with temporary_settings(SHORT_TIMEOUT), get_client(sync_client=True) as client:
        for run in read_runs(states=ALIVE):
            target = find_correction(
                run,
                is_lost=any(is_of_run(chunk, run, sessions) for chunk in swept),
                is_holding=any(is_of_run(chunk, run, sessions) for chunk in held),
                is_orphan=is_worker_session_over(run, sessions),
            )
            if target is not None and replace_state(client, run, target):
                corrections.append(f"{run.name}: {target.name}")
        for run in read_runs(states=ALIVE, deployments=CONTROL_DEPLOYMENTS):
            target = Crashed(message="Its process is gone: a control run takes minutes at most.")
            if is_older(run, MAX_CONTROL_RUN_AGE) and replace_state(client, run, target):
                corrections.append(f"{run.name}: Crashed")
    return corrections


def replace_state(client: SyncPrefectClient, run: FlowRun, target: State[Any]) -> bool:
    """Set the state of a flow run to ``target``. Returns whether the state was set.

    The state is not set if it has changed since ``run`` was read, or if Prefect refuses. It is proposed without
    ``force``, so a final state is never replaced.
    """
    state = client.read_flow_run(run.id).state
    if state is None or run.state is None or state.id != run.state.id:
        return False
    return client.set_flow_run_state(run.id, target).status == SetStateStatus.ACCEPT


def is_older(run: FlowRun, age: timedelta) -> bool:
    """Return whether a flow run has been in its state for longer than ``age``."""
    return run.state is not None and now("UTC") - run.state.timestamp > age


def is_of_run(chunk: HeldChunk | SweptChunk, run: FlowRun, sessions: Sequence[WorkerSession]) -> bool:
    """Return whether a flow run holds or held a chunk.

    False if another worker took the run than the worker of the chunk: any box may send any flow run id with a claim.
    """
    taker = run.labels.get(WORKER_LABEL)
    return chunk.flow_run_id == run.id and not any(
        s.worker_id == chunk.worker_id and taker and s.prefect_worker not in {None, taker} for s in sessions
    )


def is_worker_session_over(run: FlowRun, sessions: Sequence[WorkerSession]) -> bool:
    """Return whether the worker that took a run is stale or offline, or started a newer session after it took the run.

    The flow processes of that worker have then ended. Any box may register any Prefect worker name. So the result is
    True only if every session with that name is stale, offline or newer than the run.
    """
    if run.state is None:
        return False
    taken_at, taker = run.state.timestamp, run.labels.get(WORKER_LABEL)
    named = [session for session in sessions if taker and session.prefect_worker == taker]
    return bool(named) and all(
        session.status in {"stale", "offline"} or session.started_at > taken_at + MAX_CLOCK_SKEW for session in named
    )


def find_correction(run: FlowRun, *, is_lost: bool, is_holding: bool, is_orphan: bool = False) -> State[Any] | None:
    """Return the state Crashed for an active flow run whose process is gone; None if the process may be alive.

    Args:
        run: a flow run that is PENDING or RUNNING.
        is_lost: whether a chunk of the run was taken back.
        is_holding: whether the run holds a chunk, or closed one within the last minute.
        is_orphan: whether the session of the worker that took the run is over.
    """
    if run.state is None:
        return None
    is_old = is_older(run, MIN_RUN_AGE)
    if run.state.type == StateType.PENDING:
        gone = "The worker that took it is gone. Dispatch makes a new run; repeat one that you made."
        return Crashed(message=gone) if is_orphan or is_old else None
    if not is_holding and (is_lost or is_orphan or is_old):
        return Crashed(message="Its process is gone: the sweep took its chunk back.")
    return None


@task(name="create-runs", task_run_name="create runs", **TASK_OPTIONS)
def create_runs(workload: Workload, *, chunk_videos: int, period_s: Seconds) -> int:
    """Create as many runs of validate-chunk as the workload needs. Returns the number of created runs."""
    active = read_runs(states=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
    count = plan_runs(workload, active_runs=len(active), chunk_videos=chunk_videos, period_s=period_s)
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{CHUNK_DEPLOYMENT}/{CHUNK_DEPLOYMENT}")
        for number in range(1, count + 1):
            name = f"waiting since {now('UTC'):%d %b %H:%M} UTC · {number}"  # the name until a worker takes the run
            client.create_flow_run_from_deployment(deployment.id, name=name)
    return count


def publish_sweep(report: SweepReport, corrections: Sequence[str]) -> None:
    """Publish a table artifact with the changes and failures of a sweep. Publishes nothing if there are none."""
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
    rows += [{"what": "worker is silent", "which": worker} for worker in report.stale_workers]
    rows += [{"what": "orphan deleted", "which": key} for key in report.orphans]
    rows += [
        {"what": "shard of an unknown chunk", "which": key, "why": "see `vfleet repair`"}
        for key in report.unknown_shards
    ]
    rows += [{"what": "flow run corrected", "which": sentence} for sentence in corrections]
    rows += [
        {"what": "canary is wrong", "which": canary.video_id, "why": f"{canary.worker_id}: {canary.finding}"}
        for canary in report.evaluated
        if canary.outcome == "wrong"
    ]
    if report.stranded_videos:
        rows.append({"what": "stranded videos returned", "which": str(report.stranded_videos)})
    if rows:
        rows = [{name: for_markdown(value) for name, value in row.items()} for row in rows]  # cells are Markdown
        create_table_artifact(rows, key="sweep", description="What the sweep did.")


def log_sweep(logger: LoggerLike, report: SweepReport, corrections: Sequence[str]) -> None:
    """Log one line per chunk that the sweep took back, and one line with the counts of the sweep as fields."""
    for chunk in report.swept:
        logger.info(
            "took chunk %s of worker %s back: %s",
            *(chunk.chunk_id, for_log(chunk.worker_id), for_log(chunk.reason)),
            extra={"event": "chunk_swept", "chunk_id": str(chunk.chunk_id), "worker_id": chunk.worker_id},
        )
    counts = {
        "chunks_swept": len(report.swept), "orphans_deleted": len(report.orphans),
        "workers_silent": len(report.stale_workers), "videos_stranded": report.stranded_videos,
        "canaries_evaluated": len(report.evaluated),
        "sessions_ended": report.ended_sessions, "runs_corrected": len(corrections),
        "steps_failed": len(report.failures),
    }  # fmt: skip
    logger.info(
        "swept: %s",
        ", ".join(f"{name} {count}" for name, count in counts.items()),
        extra={"event": "swept", **counts},
    )


def read_runs(
    *,
    ids: Sequence[UUID] | None = None,
    states: Sequence[StateType] | None = None,
    deployments: Sequence[str] = (CHUNK_DEPLOYMENT,),
) -> list[FlowRun]:
    """Read all flow runs with these ids, or all flow runs of these deployments in these states."""
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


def delete_late_control_runs() -> list[datetime]:
    """Delete the scheduled runs of ``operate-fleet`` that are late, because this run does their work.

    Late runs collect while the control machine is down. Only runs of the schedule are deleted, never a run that a
    person created. Runs that are not due yet are renamed after their time, because Prefect names the runs of a schedule
    with two random words.

    Returns:
        The scheduled time of this run and the times of the deleted runs.
    """
    times = [flow_run.scheduled_start_time]
    with get_client(sync_client=True) as client:
        for run in read_runs(states=[StateType.SCHEDULED], deployments=[CONTROL_DEPLOYMENT]):
            due_at = run.expected_start_time
            if not run.auto_scheduled or str(run.id) == flow_run.id or due_at is None:
                continue
            with suppress(ObjectNotFound):
                if due_at <= datetime.now(UTC):
                    client.delete_flow_run(run.id)
                    times.append(due_at)
                elif run.name != (name := f"operate the fleet · due {due_at:%H:%M} UTC"):
                    client.update_flow_run(run.id, name=name)
    return times


def is_due(times: list[datetime], *, every_s: Seconds, period_s: Seconds) -> bool:
    """Return whether one of the times lies in the first ``period_s`` seconds of an interval.

    The intervals have ``every_s`` seconds each and are counted from 1970 (UTC).
    """
    return any(time.timestamp() % every_s < period_s for time in times)


def run_step(name: str, step: Callable[[], object]) -> str | None:
    """Run one step and catch its error, so that the other steps still run.

    Returns:
        The name of the step with its error, or with the message of a Failed state; None if the step succeeded.
    """
    try:
        done = step()
    except Exception as error:  # noqa: BLE001 - the control run reports the error at its end
        get_run_logger().warning("%s failed: %s", name, error, exc_info=error)
        return f"{name}: {error}"
    return f"{name}: {done.message}" if isinstance(done, State) and done.is_failed() else None

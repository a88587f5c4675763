"""What a control run does before its steps: it takes over from the control runs that are late."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run

from tasks.control import read_runs
from validation.domain import Seconds

DEPLOYMENT = "operate-fleet"


def take_over_late_runs() -> list[datetime]:
    """Delete the scheduled control runs that are late, because this run does their work. Returns all their times.

    Those that are not due yet get a name: Prefect names the runs of a schedule with two random words.

    While the control machine is down, its runs wait. Only runs of the schedule are deleted, never one that a person
    asked for, and the times that are returned include the time of this run.
    """
    times = [flow_run.scheduled_start_time]
    with get_client(sync_client=True) as client:
        for run in read_runs(states=[StateType.SCHEDULED], deployments=[DEPLOYMENT]):
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
    """Whether one of the times is the first of a longer period."""
    return any(time.timestamp() % every_s < period_s for time in times)


def run_step(name: str, step: Callable[[], object]) -> str | None:
    """Run one step. Returns why it failed: the other steps are done all the same."""
    try:
        done = step()
    except Exception as error:  # noqa: BLE001 - the run reports it at its end
        get_run_logger().warning("%s failed: %s", name, error, exc_info=error)
        return f"{name}: {error}"
    return f"{name}: {done.message}" if isinstance(done, State) and done.is_failed() else None

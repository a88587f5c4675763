"""Publish the progress of the fleet as artifacts."""

from prefect import flow, get_run_logger

from tasks.progress import publish_language_bars, publish_page, publish_workers, read_fleet_status, settle_failures
from validation.analysis.status.format import headline


@flow(name="report-progress", flow_run_name="report progress")
def report_progress() -> str:
    """Publish a page with plots, rates, cost and the expected end; a table of workers; a progress bar per language.

    At the end the flow reads the source objects of videos that only one box has failed: it confirms or refutes the
    failures.
    """
    status = read_fleet_status()
    publish_page(status)
    publish_workers(status)
    publish_language_bars(status)
    summary = headline(status)
    get_run_logger().info("published the progress: %s", summary, extra={"event": "progress_published"})
    settle_failures()
    return summary

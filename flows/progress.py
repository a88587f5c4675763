"""Show where people look how far the fleet has come."""

from prefect import flow

from tasks.progress import leave_language_bars, leave_page, leave_workers, look
from validation.analysis.status.format import headline


@flow(name="report-progress", flow_run_name="report progress")
def report_progress() -> str:
    """Leave artifacts: a page with plots, rates, cost and the end in sight; the workers; a progress bar a language."""
    standing = look()
    leave_page(standing)
    leave_workers(standing)
    leave_language_bars(standing)
    return headline(standing)

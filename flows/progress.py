"""Show where people look how far the fleet has come."""

from prefect import flow

from tasks.progress import look, publish_language_bars, publish_page, publish_workers
from validation.analysis.status.format import headline


@flow(name="report-progress", flow_run_name="report progress")
def report_progress() -> str:
    """Leave artifacts: a page with plots, rates, cost and the end in sight; the workers; a progress bar a language."""
    standing = look()
    publish_page(standing)
    publish_workers(standing)
    publish_language_bars(standing)
    return headline(standing)

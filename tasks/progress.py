"""Where the fleet stands, as Prefect's artifacts."""

import re
from hashlib import sha256

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from blocks.session import open_control
from validation.analysis.status.fleet_status import FleetStatus, read_status
from validation.analysis.status.format import (
    describe_language,
    describe_silence,
    headline,
    worker_cells,
    write_page,
)

MAX_LANGUAGES = 30
"""Progress bars at most: a queue with hundreds of labels has them in the page's table."""


@task(name="read-standing", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def look() -> FleetStatus:
    """Read the ledger's views once."""
    return read_status(open_control().engine)


def publish_page(standing: FleetStatus) -> None:
    """Leave the page with its plots, under one key: its history shows earlier ones."""
    create_markdown_artifact(write_page(standing), key="fleet", description=headline(standing))


def publish_workers(standing: FleetStatus) -> None:
    """Leave the table of workers, those in trouble first."""
    if standing.workers:
        rows = [worker_cells(row) for row in standing.workers]
        create_table_artifact(rows, key="fleet-workers", description=describe_silence(standing))


def publish_language_bars(standing: FleetStatus) -> None:
    """Leave a progress bar a language, the largest languages first."""
    for row in standing.languages[:MAX_LANGUAGES]:
        percent = float(100 * row["done_share"])
        create_progress_artifact(percent, key=language_key(row["language"]), description=describe_language(row))


def language_key(language: str) -> str:
    """Name a language's bar: one label, one key.

    A key has small letters, digits and dashes; labels that these cannot spell are told apart by a hash.
    """
    spelled = re.sub("[^a-z0-9]+", "-", language.lower()).strip("-")
    told = [spelled] if spelled == language else [spelled, sha256(language.encode()).hexdigest()[:8]]
    return "-".join(["language", *filter(None, told)])

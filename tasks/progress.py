"""Publishes the progress of the fleet as Prefect artifacts."""

import re
from functools import partial
from hashlib import sha256

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from blocks.control import complete_settings, open_control_services
from validation.analysis.status.fleet_status import FleetStatus, read_status
from validation.analysis.status.format import (
    describe_language,
    describe_silence,
    render_status_page,
    worker_cells,
)
from validation.control.witness import make_video_reader, witness_failures
from validation.escape import for_markdown
from validation.services import open_source
from validation.settings import load_settings

MAX_LANGUAGES = 30
"""Maximum number of progress bars. The table of the page lists the other languages."""


@task(name="read-status", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def read_fleet_status() -> FleetStatus:
    """Read the status of the fleet from the ledger."""
    return read_status(open_control_services().engine)


@task(name="settle-failures", cache_policy=NO_CACHE)
def settle_failures() -> int:
    """Read the objects of videos that boxes of only one owner have failed; confirm or refute each as second witness.

    Returns the number of settled failures.
    """
    settings = complete_settings(load_settings())
    read_video = make_video_reader(partial(open_source, settings), settings.source_key)
    return len(witness_failures(open_control_services().engine, read_video))


def publish_page(status: FleetStatus) -> None:
    """Publish the page with its plots under one artifact key. The history of the key keeps the earlier pages."""
    create_markdown_artifact(render_status_page(status), key="fleet", description="The progress of the fleet.")


def publish_workers(status: FleetStatus) -> None:
    """Publish the table of workers, workers with problems first. Publishes nothing without workers."""
    if status.workers:
        rows = [{name: for_markdown(cell) for name, cell in worker_cells(row).items()} for row in status.workers]
        create_table_artifact(rows, key="fleet-workers", description=describe_silence(status))


def publish_language_bars(status: FleetStatus) -> None:
    """Publish one progress bar for each of the ``MAX_LANGUAGES`` largest languages."""
    for row in status.languages[:MAX_LANGUAGES]:
        percent = float(100 * row["done_share"])
        create_progress_artifact(percent, key=language_key(row["language"]), description=describe_language(row))


def language_key(language: str) -> str:
    """Return the artifact key of a language's progress bar. Two labels never have the same key.

    Prefect allows lower-case letters, digits and dashes in a key. A label with other characters gets a hash appended.
    """
    slug = re.sub("[^a-z0-9]+", "-", language.lower()).strip("-")
    parts = [slug] if slug == language else [slug, sha256(language.encode()).hexdigest()[:8]]
    return "-".join(["language", *filter(None, parts)])

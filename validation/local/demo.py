"""`vfleet demo`: validate real speech with the whole stack on one machine."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine

from validation.errors import Permanent
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.queries import read_view
from validation.ledger.seed import seed_videos
from validation.local.demo_report import check_outcome, print_outcome, read_outcome
from validation.local.prefect_client import PrefectClient
from validation.local.sample_corpus import SampleCorpus, build_sample_corpus
from validation.local.stack import LocalStack
from validation.local.worker import WorkerProcess
from validation.settings import Settings
from validation.storage.store import get_bytes, list_keys, open_store, put_once

CHUNK_VIDEOS = 6
"""Small, so that the sample corpus makes several chunks and two run concurrently."""
OPERATE_EVERY_S = 10
"""Production dispatches every two minutes, which would be as long as the demo."""
DEMO_TIMEOUT_S = 600.0


class DemoFailed(Permanent):
    """The demo did not finish, or its worker exited."""

    keeps_lines = True


def run_demo(folder: Path, *, keep: bool) -> int:
    """Validate the sample corpus through Prefect; print and check the results. Returns an exit code."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    folder = folder.resolve()
    console.rule("setting up")
    LocalStack(folder / "stack").erase()
    shutil.rmtree(folder / "results", ignore_errors=True)
    with LocalStack(folder / "stack", report=console.print) as stack, applied(stack.environment()):
        engine, settings, prefect = (
            open_engine(stack.postgres.libpq_url()),
            Settings(),
            PrefectClient(stack.environment()),
        )
        corpus = load_corpus(engine, settings)
        console.print(f"{len(corpus.videos)} videos packed, uploaded and queued; {len(corpus.faults)} faults planted")
        prefect.deploy_all()
        prefect.set_parameters("operate-fleet", chunk_videos=CHUNK_VIDEOS, period_s=OPERATE_EVERY_S)
        prefect.reschedule("operate-fleet", every_s=OPERATE_EVERY_S)
        console.print(f"deployed; the Prefect UI is at [link]{stack.prefect.ui_url}[/link]")
        console.rule("validating")
        with workers(folder / "stack", stack.environment()) as box:
            await_row(engine, box, console, until=lambda row: row["workers_online"], total=len(corpus.videos))
            await_row(engine, box, console, until=is_done, total=len(corpus.videos))
        console.rule("results")
        outcome = read_outcome(engine, open_store(settings.results_url, settings))
        copy_results(settings, folder / "results")
        print_outcome(console, corpus, outcome, prefect.count_states())
        console.print(f"shards and manifests: {folder / 'results'}")
        problems = check_outcome(corpus, outcome)
        for problem in problems:
            console.print(f"[bold red]unexpected result:[/] {problem}")
        if keep:
            wait_for_interrupt(console, stack.prefect.ui_url)
    return 1 if problems else 0


def load_corpus(engine: Engine, settings: Settings) -> SampleCorpus:
    """Migrate the ledger, upload the tars and enter the videos."""
    corpus = build_sample_corpus()
    migrate(engine)
    store = open_store(settings.source_url, settings)
    for video in corpus.videos:
        if video.tar is not None:
            put_once(store, settings.source_key.format(video_id=video.queued.video_id), video.tar)
    seed_videos(engine, [video.queued for video in corpus.videos])
    return corpus


@contextmanager
def workers(folder: Path, environment: dict[str, str]) -> Iterator[WorkerProcess]:
    """A box's worker and the control worker, drained at the end. Yields the box's worker."""
    box = WorkerProcess(folder, environment | {"PARQUET_SHARD_SIZE": str(CHUNK_VIDEOS)}, name="val-1")
    control = WorkerProcess(folder, environment, name="control-1", pool="control", kind="process")
    try:
        control.launch()
        yield box.launch()
    finally:
        box.stop()
        control.stop()


def await_row(
    engine: Engine, box: WorkerProcess, console: Console, *, until: Callable[[dict[str, Any]], object], total: int
) -> None:
    """Show progress until the view `fleet_overview` satisfies a condition.

    Raises:
        DemoFailed: the worker exited, or the time is up; the message holds the end of the worker's log.
    """
    deadline = time.monotonic() + DEMO_TIMEOUT_S
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("videos", total=total)
        while True:
            (row,) = read_view(engine, "fleet_overview")
            bars.update(bar, completed=row["validated"] + row["failed"], description=describe(row))
            if until(row):
                return
            if box.has_ended() or time.monotonic() > deadline:
                why = "the worker exited" if box.has_ended() else f"not done after {DEMO_TIMEOUT_S:.0f} s"
                raise DemoFailed(f"{why}; its log ends:\n{box.log_tail()}")
            time.sleep(1)


def is_done(row: dict[str, Any]) -> bool:
    return not (row["pending"] or row["validating"])


def describe(row: dict[str, Any]) -> str:
    if not row["workers_online"]:
        return "waiting for the worker"
    return f"{row['validating']} in work, {row['segments'] or 0} segments done"


def copy_results(settings: Settings, folder: Path) -> None:
    """Copy every shard and manifest to a local folder."""
    store = open_store(settings.results_url, settings)
    for key in list_keys(store):
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(get_bytes(store, key))


def wait_for_interrupt(console: Console, ui_url: str) -> None:
    console.print(f"the stack keeps running: {ui_url} (stop it with Ctrl-C)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")


@contextmanager
def applied(environment: dict[str, str]) -> Iterator[None]:
    """Use the stack's environment, without settings of a real fleet."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("VFLEET_", "R2_", "PREFECT_"))]:
        del os.environ[name]
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

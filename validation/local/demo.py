"""`vfleet demo`: validate real speech on one machine, and check that the validation finds each injected fault."""

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from obstore.store import ObjectStore
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Engine

from validation.errors import Permanent
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.queries import audit_ledger, read_committed_shards, read_view
from validation.ledger.seed import seed_videos
from validation.local.prefect_client import PrefectClient
from validation.local.sample_corpus import PlantedFault, SampleCorpus, build_sample_corpus
from validation.local.stack import LocalStack, WorkerProcess
from validation.settings import Settings
from validation.shards.manifest import ShardManifest
from validation.shards.naming import manifest_key_of
from validation.shards.reader import read_shard, verify_shard
from validation.storage.store import get_bytes, list_keys, open_store, put_if_absent

CHUNK_VIDEOS = 6
"""Videos per chunk: few, so that the sample corpus gives several chunks and two of them run concurrently."""
OPERATE_EVERY_S = 10
"""Period of the flow `operate-fleet` in seconds. In production the period is two minutes, as long as the demo."""
DEMO_TIMEOUT_S = 600.0


class DemoFailed(Permanent):
    """The demo did not finish in time, or its worker exited."""

    keeps_lines = True


def run_demo(folder: Path, *, keep: bool) -> int:
    """Validate the sample corpus through Prefect, then print and check the results.

    The stack and the results of an earlier demo in this folder are deleted before. With ``keep`` the stack runs on
    until Ctrl-C. Returns the exit code: 1 if a result is wrong, else 0.
    """
    console = Console(width=None if sys.stdout.isatty() else 130)
    folder = folder.resolve()
    console.rule("setting up")
    LocalStack(folder / "stack").erase()
    shutil.rmtree(folder / "results", ignore_errors=True)
    with LocalStack(folder / "stack", report=console.print) as stack, replaced_environment(stack.environment()):
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
        with running_workers(folder / "stack", stack.environment()) as box:
            await_overview(engine, box, console, until=lambda row: row["workers_online"], total=len(corpus.videos))
            await_overview(engine, box, console, until=is_done, total=len(corpus.videos))
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
    """Migrate the ledger, upload the tars of the sample corpus and enter its videos into the queue."""
    corpus = build_sample_corpus()
    migrate(engine)
    store = open_store(settings.source_url, settings)
    for video in corpus.videos:
        if video.tar is not None:
            put_if_absent(store, settings.source_key.format(video_id=video.queued.video_id), video.tar)
    seed_videos(engine, [video.queued for video in corpus.videos])
    return corpus


@contextmanager
def running_workers(folder: Path, environment: dict[str, str]) -> Iterator[WorkerProcess]:
    """Run a box's worker and the control worker, and drain both at the end. Yields the box's worker."""
    box = WorkerProcess(folder, environment | {"PARQUET_SHARD_SIZE": str(CHUNK_VIDEOS)}, name="val-1")
    control = WorkerProcess(folder, environment, name="control-1", pool="control", kind="process")
    try:
        control.launch()
        yield box.launch()
    finally:
        box.stop()
        control.stop()


def await_overview(
    engine: Engine, box: WorkerProcess, console: Console, *, until: Callable[[dict[str, Any]], object], total: int
) -> None:
    """Wait until the row of the view `fleet_overview` meets the condition ``until``. Meanwhile show the progress.

    Args:
        engine: the ledger.
        box: the box's worker.
        console: where the progress is shown.
        until: the condition; its result counts as a bool.
        total: number of videos in the queue.

    Raises:
        DemoFailed: the worker exited, or ``DEMO_TIMEOUT_S`` have passed; the message has the end of the worker's log.
    """
    deadline = time.monotonic() + DEMO_TIMEOUT_S
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("videos", total=total)
        while True:
            (row,) = read_view(engine, "fleet_overview")
            bars.update(bar, completed=row["validated"] + row["failed"], description=describe_overview(row))
            if until(row):
                return
            if box.has_ended() or time.monotonic() > deadline:
                why = "the worker exited" if box.has_ended() else f"not done after {DEMO_TIMEOUT_S:.0f} s"
                raise DemoFailed(f"{why}; its log ends:\n{box.log_tail()}")
            time.sleep(1)


def is_done(row: dict[str, Any]) -> bool:
    """Return whether no video is pending or validating."""
    return not (row["pending"] or row["validating"])


def describe_overview(row: dict[str, Any]) -> str:
    """Describe a row of ``fleet_overview`` in a few words, for the progress bar."""
    if not row["workers_online"]:
        return "waiting for the worker"
    return f"{row['validating']} in work, {row['segments'] or 0} segments done"


def copy_results(settings: Settings, folder: Path) -> None:
    """Copy every object of the results store to a local folder."""
    store = open_store(settings.results_url, settings)
    for key in list_keys(store):
        target = folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(get_bytes(store, key))


def wait_for_interrupt(console: Console, ui_url: str) -> None:
    """Print the address of the UI and wait for Ctrl-C."""
    console.print(f"the stack keeps running: {ui_url} (stop it with Ctrl-C)")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")


@contextmanager
def replaced_environment(environment: dict[str, str]) -> Iterator[None]:
    """Replace the settings of a real fleet in ``os.environ`` by the stack's environment until the block ends."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("VFLEET_", "R2_", "PREFECT_"))]:
        del os.environ[name]
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


COLOURS = {"accept": "green", "review": "yellow", "reject": "red"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state after the run."""

    videos: Mapping[str, Mapping[str, Any]]
    """Video id -> row of the view ``video_outcomes``."""
    segments: pl.DataFrame
    """The rows of all committed shards."""
    shard_bytes: int
    shards: int
    """Number of committed shards."""
    workers: Sequence[Mapping[str, Any]]
    """Rows of the view ``worker_liveness``."""
    contradictions: Sequence[str]
    """One sentence per violated invariant of the ledger and per shard that the ledger does not know."""


def read_outcome(engine: Engine, results: ObjectStore) -> Outcome:
    """Read and verify the committed shards, and read the ledger's views.

    Raises:
        ShardCorrupt: a stored shard differs from its manifest.
    """
    committed = read_committed_shards(engine)
    frames = []
    for shard in committed:
        payload = get_bytes(results, shard.shard_key)
        manifest = manifest_key_of(shard.shard_key)
        verify_shard(payload, ShardManifest.from_json(get_bytes(results, manifest), manifest))
        frames.append(read_shard(payload))
    known = {shard.shard_key for shard in committed}
    orphans = [key for key in list_keys(results, "shards") if key.endswith(".parquet") and key not in known]
    broken = [
        f"{check.invariant}: {check.violations}, e.g. {check.example}"
        for check in audit_ledger(engine)
        if check.violations
    ]
    return Outcome(
        videos={row["video_id"]: row for row in read_view(engine, "video_outcomes")},
        segments=pl.concat(frames) if frames else pl.DataFrame(),
        shard_bytes=sum(shard.shard_bytes for shard in committed),
        shards=len(committed),
        workers=read_view(engine, "worker_liveness"),
        contradictions=[*broken, *(f"no ledger row for {key}" for key in orphans)],
    )


def check_outcome(corpus: SampleCorpus, outcome: Outcome) -> list[str]:
    """Return one sentence per difference from the expected result."""
    problems = list(outcome.contradictions)
    problems += [f"not found: {fault.what} in {describe_place(fault)}" for fault in missed_faults(corpus, outcome)]
    failed = {fault.video_id for fault in corpus.faults if fault.segment is None}
    for sample in corpus.videos:
        video_id = sample.queued.video_id
        expected = "validation_failed" if video_id in failed else "validated"
        if (status := outcome.videos[video_id]["validation_status"]) != expected:
            problems.append(f"{video_id} is {status}, not {expected}: {outcome.videos[video_id]['validation_error']}")
    planted = {(fault.video_id, fault.segment) for fault in corpus.faults}
    for row in outcome.segments.filter(pl.col("verdict") != "accept").iter_rows(named=True):
        if (row["video_id"], row["segment_index"]) not in planted:
            problems.append(
                f"a segment without a fault was not accepted: {row['video_id']} {row['segment']}: {row['reasons']}"
            )
    return problems


def missed_faults(corpus: SampleCorpus, outcome: Outcome) -> list[PlantedFault]:
    """Return the injected faults that the run did not report with the expected reason."""
    return [fault for fault in corpus.faults if not is_found(fault, outcome)]


def is_found(fault: PlantedFault, outcome: Outcome) -> bool:
    """Return whether the run reported the injected fault with the expected reason."""
    if fault.segment is None:
        return fault.reason in (outcome.videos[fault.video_id]["validation_error"] or "")
    rows = outcome.segments.filter(
        pl.col("video_id") == fault.video_id, pl.col("segment_index") == fault.segment, pl.col("verdict") == "reject"
    )
    return any(fault.reason in reasons for reasons in rows["reasons"].to_list())


def print_outcome(console: Console, corpus: SampleCorpus, outcome: Outcome, runs: Mapping[str, int]) -> None:
    """Print the videos, the workers, the flow runs and the injected faults."""
    console.print(video_table(outcome))
    for worker in outcome.workers:
        console.print(
            f"worker {worker['worker_id']}: {worker['status']}, {worker['videos_processed']} videos validated, "
            f"{worker['videos_failed']} failed, {worker['segments_processed']} segments, "
            f"{worker['shards_uploaded']} shards, {worker['total_parquet_mb']:.2f} MB"
        )
    states = ", ".join(f"{count} {name}" for name, count in runs.items())
    console.print(
        f"flow runs: {states}; {outcome.shards} shards, {len(outcome.segments)} rows, {outcome.shard_bytes} bytes"
    )
    for fault in corpus.faults:
        mark = "[green]found[/] " if is_found(fault, outcome) else "[red]MISSED[/]"
        console.print(f"{mark} {fault.what} in {describe_place(fault)}")
    found = len(corpus.faults) - len(missed_faults(corpus, outcome))
    console.print(f"[bold]{found} of {len(corpus.faults)} planted faults found[/]")


def video_table(outcome: Outcome) -> Table:
    """Return a table with one row per video: segments, verdicts and reasons."""
    table = Table(
        "video",
        "language",
        "segments",
        "verdicts",
        "reasons",
        title="scored by real weights: Whisper-base, DNSMOS, Silero",
    )
    for video_id, video in outcome.videos.items():
        rows = outcome.segments.filter(pl.col("video_id") == video_id)
        verdicts = " ".join(f"[{COLOURS[v]}]{n} {v}[/]" for v, n in sorted(Counter(rows["verdict"]).items()))
        reasons = ", ".join(f"{reason} x{n}" for reason, n in Counter(rows["reasons"].explode().drop_nulls()).items())
        found, promised = video["validation_segments"], video["segment_count"]
        count = f"{found}" if found == promised else f"{found or '-'} of {promised}"
        table.add_row(
            video_id, video["language"], count, verdicts or "[red]failed[/]", reasons or video["validation_error"]
        )
    return table


def describe_place(fault: PlantedFault) -> str:
    """Return the video of an injected fault, and its segment if it has one."""
    return fault.video_id if fault.segment is None else f"{fault.video_id}, segment {fault.segment}"

"""The demo's results as tables, and the check that every planted fault was found."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from obstore.store import ObjectStore
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine

from validation.ledger.queries import audit_ledger, read_committed_shards, read_view
from validation.local.sample_corpus import PlantedFault, SampleCorpus
from validation.shards.manifest import ShardManifest
from validation.shards.naming import sibling_key
from validation.shards.reader import read_shard, verify_shard
from validation.storage.store import get_bytes, list_keys

COLOURS = {"accept": "green", "review": "yellow", "reject": "red"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The state after the run: the queue, the shards' rows, the fleet, and the audit's findings."""

    videos: Mapping[str, Mapping[str, Any]]
    segments: pl.DataFrame
    shard_bytes: int
    shards: int
    fleet: Sequence[Mapping[str, Any]]
    contradictions: Sequence[str]


def read_outcome(engine: Engine, results: ObjectStore) -> Outcome:
    """Read and verify the committed shards, and read the ledger's views.

    Raises:
        ShardCorrupt: a stored shard differs from its manifest.
    """
    committed = read_committed_shards(engine)
    frames = []
    for shard in committed:
        payload = get_bytes(results, shard.shard_key)
        manifest = sibling_key(shard.shard_key)
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
        fleet=read_view(engine, "worker_liveness"),
        contradictions=[*broken, *(f"no ledger row for {key}" for key in orphans)],
    )


def check_outcome(corpus: SampleCorpus, outcome: Outcome) -> list[str]:
    """List every difference from the expected result."""
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
    return [fault for fault in corpus.faults if not is_found(fault, outcome)]


def is_found(fault: PlantedFault, outcome: Outcome) -> bool:
    """Whether the run reported the planted fault with the expected reason."""
    if fault.segment is None:
        return fault.reason in (outcome.videos[fault.video_id]["validation_error"] or "")
    rows = outcome.segments.filter(
        pl.col("video_id") == fault.video_id, pl.col("segment_index") == fault.segment, pl.col("verdict") == "reject"
    )
    return any(fault.reason in reasons for reasons in rows["reasons"].to_list())


def print_outcome(console: Console, corpus: SampleCorpus, outcome: Outcome, runs: Mapping[str, int]) -> None:
    """Print the videos, the workers and the planted faults."""
    console.print(video_table(outcome))
    for worker in outcome.fleet:
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
    return fault.video_id if fault.segment is None else f"{fault.video_id}, segment {fault.segment}"

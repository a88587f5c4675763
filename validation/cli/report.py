"""`vfleet report`: a page of results."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validation.cli import Subparsers

if TYPE_CHECKING:
    import pyarrow as pa

    from validation.analysis.report.audio_samples import SegmentKey
    from validation.analysis.selection.sources import ShardSource
    from validation.canaries.evaluate import CanaryTally
    from validation.domain import Fault


def add_report_command(commands: Subparsers) -> None:
    """Add the subcommand. What it needs is imported when it runs."""
    reporting = commands.add_parser("report", help="write a page of results from committed shards, to look at and hear")
    reporting.add_argument("out", nargs="?", type=Path, default=Path("report.html"), help="default: report.html")
    reporting.add_argument("--rules", help="a rules file, or the version of a packaged one (default: the suite's own)")
    reporting.add_argument("--suite", help="whose shards (default: VFLEET_SUITE, or the only one of a folder)")
    reporting.add_argument("--shards", type=Path, help="read from this copy of the results store")
    reporting.add_argument(
        "--revision",
        help="read nothing of revisions first committed after this one (default: of each model the newest answers)",
    )
    reporting.add_argument("--worst", type=int, default=3, help="segments to show a reason (default: 3)")
    reporting.add_argument("--borderline", type=int, default=12, help="borderline segments to show (default: 12)")
    reporting.add_argument("--silent", action="store_true", help="without players: the source is not read")
    reporting.set_defaults(command=run_report)


def run_report(options: argparse.Namespace) -> None:
    from datetime import UTC, datetime

    from validation.analysis.report.findings import gather_findings
    from validation.analysis.report.page import Origin, write_page
    from validation.analysis.report.signals import find_signals
    from validation.analysis.selection.open import open_segments, scan_errors
    from validation.analysis.selection.verdicts import apply_rules
    from validation.analysis.selection.write import replace_when_complete
    from validation.cli.select import find_rules, find_source
    from validation.errors import BadInput

    if not options.out.absolute().parent.is_dir():
        raise BadInput(f"{options.out} cannot be written: folder {options.out.absolute().parent} does not exist")
    source = find_source(options)
    rules = find_rules(options.rules, source.suite)
    with scan_errors(source.suite):
        judged = apply_rules(open_segments(source), rules)
        signals = find_signals(judged, describe_columns(source))
        findings = gather_findings(
            judged, rules, signals, worst_per_reason=max(options.worst, 0), borderline=max(options.borderline, 0)
        )
    if not findings.segments:  # a canary's are not counted
        raise BadInput(f"no segment of suite {source.suite} stands in a committed shard yet: there is nothing to tell")
    audio = {} if options.silent else listen([*findings.worst, *findings.borderline])
    origin = Origin(
        source.suite,
        {model: made for revision in source.revisions for model, made in revision.models.items()},
        revisions=len(source.revisions),
        shards=sum(len(revision.shards) for revision in source.revisions),
        rules=rules,
        written_at=datetime.now(UTC),
    )
    page = write_page(origin, findings, signals, audio, count_canaries())
    with replace_when_complete(options.out) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"{findings.segments:,} segments of {findings.hours():.2f} h told in {options.out}")


def count_canaries() -> "CanaryTally | None":
    """What became of the canaries; None where no ledger is set."""
    from validation.canaries.evaluate import tally_results
    from validation.ledger.canaries import read_canary_results
    from validation.services import open_ledger
    from validation.settings import load_settings

    if not load_settings().database_url.get_secret_value():
        return None
    return tally_results(read_canary_results(open_ledger()))


def describe_columns(source: "ShardSource") -> "dict[str, pa.Field]":
    """The columns of the shards, with units and meanings: polars keeps neither."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from validation.services import open_results
    from validation.settings import load_settings
    from validation.storage.store import get_bytes

    described: dict[str, pa.Field] = {}
    for uri in [revision.shards[0].uri for revision in source.revisions]:
        if Path(uri).is_file():
            schema = pq.read_schema(uri)
        else:
            key = uri.removeprefix(load_settings().results_url.rstrip("/") + "/")
            schema = pq.read_schema(pa.BufferReader(get_bytes(open_results(), key)))
        described |= {field.name: field for field in schema}
    return described


def listen(rows: Sequence[Any]) -> "dict[SegmentKey, str | Fault]":
    """What the segments sound like. A source that cannot be opened is told in each player's place."""
    from validation.analysis.report.audio_samples import fetch_audio
    from validation.domain import Fault
    from validation.errors import FleetError
    from validation.settings import load_settings
    from validation.storage.store import open_store

    settings = load_settings()
    try:
        return fetch_audio(rows, open_store(settings.source_url, settings), settings.source_key)
    except FleetError as error:
        return {(row["video_id"], row["segment"]): Fault("no_source", str(error)) for row in rows}

"""`vfleet select` and `vfleet report`: apply verdict rules to the committed segments, and write files or a page."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_args

import typer

from validation.errors import BadInput
from validation.output import print_json, print_table, say, say_error

if TYPE_CHECKING:
    from validation.analysis.report.page import SegmentKey
    from validation.analysis.selection.caps import CapSummary
    from validation.analysis.selection.sources import ShardSource
    from validation.analysis.selection.summary import ReviewSummary, SelectionSummary
    from validation.canaries.evaluate import CanaryTally
    from validation.domain import Fault
    from validation.scoring.verdict import Decision, Rules
    from validation.settings import Settings

PANEL = "Results"


class Format(StrEnum):
    """File formats of a selection."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    WEBDATASET = "webdataset"


RulesOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--rules",
        metavar="FILE|VERSION",
        help="A rules file or a packaged version; the suite's by default.",
    ),
]
SuiteOption: TypeAlias = Annotated[
    str | None, typer.Option("--suite", help="Whose shards; VFLEET_SUITE, or the only suite of a folder, by default.")
]
ShardsOption: TypeAlias = Annotated[
    Path | None, typer.Option("--shards", metavar="FOLDER", help="Read from this copy of the results store.")
]
BucketOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--bucket", metavar="URL", help="Read this results store by its catalogue, without the ledger."),
]
RevisionOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--revision",
        help="Ignore revisions first committed after this one. By default each model's newest answer counts.",
    ),
]


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(select)
    app.command(rich_help_panel=PANEL)(report)


def select(
    out: Annotated[Path | None, typer.Argument(help="File to write: .parquet, .jsonl or .wds.jsonl.")] = None,
    rules: RulesOption = None,
    keep: Annotated[str, typer.Option(metavar="VERDICTS", help="Verdicts to keep, comma-separated.")] = "accept",
    suite: SuiteOption = None,
    shards: ShardsOption = None,
    bucket: BucketOption = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="Format of the file; by default, its ending names the format.")
    ] = None,
    revision: RevisionOption = None,
    best_hours: Annotated[
        float | None,
        typer.Option(min=0, metavar="HOURS", help="Of each language, write only the best hours, by the margin."),
    ] = None,
    best_share: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="SHARE", help="Of each language, write only the best share, by the margin."),
    ] = 1.0,
    hours_per_video: Annotated[
        float | None, typer.Option(min=0, metavar="HOURS", help="Write at most these hours of a video.")
    ] = None,
    hours_per_speaker: Annotated[
        float | None, typer.Option(min=0, metavar="HOURS", help="Write at most these hours of a speaker of a video.")
    ] = None,
    per_text: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Write at most N segments with nearly the same text.")
    ] = None,
    distinct_audio: Annotated[bool, typer.Option("--distinct-audio", help="Write equal audio only once.")] = False,
    explain: Annotated[
        str | None, typer.Option(metavar="VIDEO/SEGMENT", help="Print why one segment has its verdict, and end.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the counts as one line of strict JSON.")] = False,
) -> None:
    """Apply verdict rules to the committed segments, count them, and write those with the wanted verdicts.

    No model runs: other rules are applied to the stored answers.

    Examples: `vfleet select good.parquet`, `vfleet select good.jsonl --keep accept,review --rules mine.toml`,
    `vfleet select --explain VIDEO/SEGMENT`, `vfleet select best.parquet --best-hours 500`,
    `vfleet select varied.parquet --hours-per-speaker 2 --per-text 5 --distinct-audio`
    """
    from validation.analysis.selection.best import keep_best
    from validation.analysis.selection.open import open_segments, scan_errors
    from validation.analysis.selection.sources import read_fields
    from validation.analysis.selection.summary import explain_verdict, find_segment, summarize_selection
    from validation.analysis.selection.verdicts import apply_rules
    from validation.analysis.selection.write import describe_left_out, guess_format, write_selection

    verdicts = parse_verdicts(keep)
    form = (format_.value if format_ else guess_format(out)) if out is not None and not explain else None
    source = find_source(suite=suite, shards=shards, bucket=bucket, revision=revision)
    book = find_rules(rules, source.suite)
    with scan_errors(source.suite):
        segments = apply_rules(open_segments(source), book)
        if explain:
            for line in explain_verdict(find_segment(segments, explain), book):
                say(line)
            return
        summary = summarize_selection(segments, book, verdicts)
        capped: list[CapSummary] = []
        if distinct_audio or {hours_per_video, hours_per_speaker, per_text} != {None}:
            from validation.analysis.selection.caps import Caps, apply_caps

            caps = Caps(hours_per_video, hours_per_speaker, per_text, distinct_audio)
            segments, capped = apply_caps(segments, verdicts, caps, (out or Path("x")).absolute().parent)
        wants_best = best_hours is not None or best_share < 1
        segments, best = keep_best(segments, verdicts, best_hours, share=best_share) if wants_best else (segments, None)
        left_out: Mapping[str, int] = {}
        if out is not None and form is not None:
            settings = load_results_settings(bucket)
            fields, tar_url = read_fields(source, settings), f"{settings.source_url.rstrip('/')}/{settings.source_key}"
            left_out = write_selection(segments, verdicts, out, form, fields=fields, tar_url=tar_url)
    if json:
        print_json({"rules": book.version, "tally": summary, "capped": capped, "left_out": left_out, "best": best})
        return
    _print_summary(summary, book, verdicts)
    if capped:
        print_table(
            ("left out by a cap", "segments", "hours"), [(row.cap, row.segments, f"{row.hours:.2f}") for row in capped]
        )
    if best is not None:
        print_table(
            ("best of language", "segments", "hours", "margin up to"),
            [(row.language, row.segments, f"{row.hours:.2f}", f"{row.margin:.3f}") for row in best],
        )
    if out is not None:
        say(f"written to {out} as {form}")
    if left_out:
        say(describe_left_out(left_out))


def _print_summary(summary: "SelectionSummary", rules: "Rules", keep: "list[Decision]") -> None:
    from validation.analysis.selection.summary import describe_selection

    print_table(
        ("language", "segments", "kept", "hours", "hours kept", "share"),
        [
            (
                row.language,
                row.segments,
                row.segments_kept,
                f"{row.hours:.2f}",
                f"{row.hours_kept:.2f}",
                f"{row.hours_kept / row.hours if row.hours else 0:.1%}",
            )
            for row in summary.languages
        ],
    )
    print_table(
        ("lost to", "segments", "hours", "hours lost to this rule alone"),
        [(lost.reason, lost.segments, f"{lost.hours:.2f}", f"{lost.hours_alone:.2f}") for lost in summary.reasons],
    )
    _explain_reviews(summary.reviews)
    changed = "no stored verdict to compare with" if summary.changed is None else f"verdicts changed: {summary.changed}"
    say(describe_selection(summary, keep))
    if len(keep) < len(summary.verdicts):
        others = ",".join(row.verdict for row in summary.verdicts if row.verdict not in keep)
        say(f"to see what was dropped: vfleet select dropped.parquet --keep {others}")
    say(f"verdicts by {rules.version}; {changed}")


def _explain_reviews(reviews: "Sequence[ReviewSummary]") -> None:
    """Say why much of a language is for review. The cause is often a limit that does not fit the language."""
    print_table(
        ("for review", "share", "mostly for", "in"),
        [(row.language, f"{row.share:.0%}", row.reason, f"{row.share_of_reason:.0%} of these") for row in reviews],
    )
    for reason, sentence in dict.fromkeys((row.reason, row.sentence) for row in reviews):
        say(f"{reason}: {sentence}")
    if reviews:
        say(
            "listen to some with `vfleet explore`; if they are good, `vfleet calibrate --shards FILE` proposes limits "
            "for their language"
        )


def report(
    out: Annotated[Path, typer.Argument(help="File to write.")] = Path("report.html"),
    rules: RulesOption = None,
    suite: SuiteOption = None,
    shards: ShardsOption = None,
    bucket: BucketOption = None,
    revision: RevisionOption = None,
    worst: Annotated[int, typer.Option(min=0, help="Segments to show per reason.")] = 3,
    borderline: Annotated[int, typer.Option(min=0, help="Segments near a limit to show.")] = 12,
    silent: Annotated[bool, typer.Option("--silent", help="Without audio players: the source is not read.")] = False,
) -> None:
    """Write an HTML page of the committed results: verdicts, reasons, agreement, distributions, audio.

    Example: `vfleet report first.html`
    """
    from datetime import UTC, datetime

    from validation.analysis.report.findings import gather_findings
    from validation.analysis.report.page import Origin, render_report
    from validation.analysis.report.signals import find_signals
    from validation.analysis.selection.open import open_segments, scan_errors
    from validation.analysis.selection.sources import read_fields
    from validation.analysis.selection.verdicts import apply_rules
    from validation.analysis.selection.write import replace_when_complete

    if not out.absolute().parent.is_dir():
        raise BadInput(f"{out} cannot be written: folder {out.absolute().parent} does not exist")
    source = find_source(suite=suite, shards=shards, bucket=bucket, revision=revision)
    book = find_rules(rules, source.suite)
    with scan_errors(source.suite):
        segments = apply_rules(open_segments(source), book)
        signals = find_signals(segments, read_fields(source, load_results_settings(bucket)))
        findings = gather_findings(segments, book, signals, worst_per_reason=worst, borderline=borderline)
    if not findings.segments:  # the segments of canaries are not included
        raise BadInput(f"suite {source.suite} has no segment in a committed shard yet: there is nothing to report")
    audio = {} if silent else fetch_report_audio([*findings.worst, *findings.borderline])
    origin = Origin(
        source.suite,
        {model: made for layer in source.revisions for model, made in layer.models.items()},
        revisions=len(source.revisions),
        shards=sum(len(layer.shards) for layer in source.revisions),
        rules=book,
        written_at=datetime.now(UTC),
    )
    page = render_report(origin, findings, signals, audio, read_canary_tally())
    with replace_when_complete(out) as partial:
        partial.write_text(page, encoding="utf-8")
    say(f"{findings.segments:,} segments of {findings.hours():.2f} h reported in {out}")


def read_canary_tally() -> "CanaryTally | None":
    """Count the outcomes of the canaries in the ledger; None if the settings name no ledger."""
    from validation.canaries.evaluate import tally_results
    from validation.ledger.canaries import read_canary_results
    from validation.services import open_ledger
    from validation.settings import load_settings

    if not load_settings().database_url.get_secret_value():
        return None
    return tally_results(read_canary_results(open_ledger()))


def fetch_report_audio(rows: Sequence[Any]) -> "dict[SegmentKey, str | Fault]":
    """Read the audio of segments from the source store, as data URIs for the report.

    A segment whose audio cannot be read has a fault instead. If the store cannot be opened, every segment has the fault
    ``no_source``.
    """
    from validation.analysis.report.page import fetch_audio
    from validation.domain import Fault
    from validation.errors import FleetError
    from validation.settings import load_settings
    from validation.storage.store import open_store

    settings = load_settings()
    try:
        return fetch_audio(rows, open_store(settings.source_url, settings), settings.source_key)
    except FleetError as error:
        return {(row["video_id"], row["segment"]): Fault("no_source", str(error)) for row in rows}


def find_source(*, suite: str | None, shards: Path | None, bucket: str | None, revision: str | None) -> "ShardSource":
    """Find the shards of a suite, by the arguments of the options with the same names.

    The list of shards is read from the ledger if the settings name one and ``bucket`` is None. Else it is read from the
    catalogue of the results store or of the folder ``shards``, or from the manifests of a folder without a catalogue.
    With manifests, ``revision`` is ignored. Shards that break the rules of the format are left out, and a message about
    each is printed on stderr.
    """
    from validation.analysis.selection.broken_shards import exclude_broken
    from validation.analysis.selection.sources import (
        find_committed_shards,
        find_in_catalogue,
        find_in_folder,
        read_catalogue,
        read_folder_catalogue,
    )
    from validation.services import open_ledger
    from validation.settings import load_settings

    settings = load_results_settings(bucket)
    if bucket is None and load_settings().database_url.get_secret_value():
        found = find_committed_shards(open_ledger(), suite or settings.suite, settings, folder=shards, up_to=revision)
    elif shards is None:
        found = find_in_catalogue(read_catalogue(settings), settings, suite=suite, up_to=revision)
    elif (catalogue := read_folder_catalogue(shards)) is None:
        found = find_in_folder(shards, suite)
    else:
        found = find_in_catalogue(catalogue, settings, suite=suite, folder=shards, up_to=revision)
    source, withheld = exclude_broken(found)
    for shard in withheld:
        say_error(f"withheld: {shard.uri} breaks the format of shards: {shard.problem}")
    return source


def load_results_settings(bucket: str | None) -> "Settings":
    """Return the settings, with ``bucket`` as the URL of the results store unless ``bucket`` is None."""
    from validation.settings import load_settings

    settings = load_settings()
    return settings if bucket is None else settings.model_copy(update={"results_url": bucket})


def find_rules(name: str | None, suite: str) -> "Rules":
    """Return the rules in a file (``*.toml``), the rules of a packaged version, or the default rules of the suite.

    Raises:
        BadInput: there is no such file or version, or no name is given and the suite is unknown to this version.
        BadRules: the file does not hold rules.
    """
    from validation.scoring.rules_io import parse_rules

    text, file = read_rules_text(name, suite)
    return parse_rules(text, file=file)


def read_rules_text(name: str | None, suite: str) -> tuple[str, str]:
    """Return the text of the rules that ``find_rules`` parses, and the name of their file for error messages.

    Raises:
        BadInput: as for ``find_rules``.
    """
    from validation.models.suites import SUITES
    from validation.scoring.rules_io import read_packaged_text

    if name is None and suite not in SUITES:
        raise BadInput(f"suite {suite!r} is unknown here and has no rules: name a rules file with --rules")
    if name is None or not name.endswith(".toml"):
        version = name or SUITES[suite].rules
        return read_packaged_text(version), f"{version}.toml"
    try:
        return Path(name).read_text(encoding="utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"rules file {name} cannot be read: {getattr(error, 'strerror', error)}") from None


def parse_verdicts(given: str) -> "list[Decision]":
    """Parse comma-separated verdicts, and return them in the order accept, review, reject.

    Raises:
        BadInput: one of the words is not a verdict.
    """
    from validation.scoring.verdict import Decision

    verdicts = [verdict.strip() for verdict in given.split(",")]
    if unknown := sorted(set(verdicts) - set(get_args(Decision))):
        raise BadInput(f"{unknown[0]!r} is not a verdict: write accept, review or reject")
    return [verdict for verdict in get_args(Decision) if verdict in verdicts]

"""`vfleet explore` shows the results as a local web page; `vfleet reviews` exports its decisions as trusted clips."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from validation.analysis.segment_address import EXPLORE_PORT
from validation.cli.results import (
    PANEL,
    BucketOption,
    RevisionOption,
    RulesOption,
    ShardsOption,
    SuiteOption,
    find_rules,
    find_source,
    load_results_settings,
    read_rules_text,
)
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import say

if TYPE_CHECKING:
    from validation.analysis.explore.context import ExploreContext
    from validation.analysis.explore.queries import SegmentTable
    from validation.scoring.verdict import Rules


DecisionsOption: TypeAlias = Annotated[
    Path, typer.Option("--reviews", metavar="FILE", help="File of the review decisions.")
]


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(explore)
    app.command(rich_help_panel=PANEL)(reviews)


def explore(
    rules: RulesOption = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="FILE|VERSION", help="Rules to compare with; may be repeated."),
    ] = None,
    suite: SuiteOption = None,
    shards: ShardsOption = None,
    bucket: BucketOption = None,
    revision: RevisionOption = None,
    against_revision: Annotated[
        str | None,
        typer.Option("--against-revision", metavar="REVISION", help="Compare the answers with those at this revision."),
    ] = None,
    decisions: DecisionsOption = Path("reviews.jsonl"),
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help=f"Port on 127.0.0.1; 0 for a free one. By default {EXPLORE_PORT}, to which reports link.",
        ),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
) -> None:
    """Serve a web page on this machine to look at the results: filter, listen, move limits, decide.

    The segments are copied into a DuckDB file in ~/.cache/validation-fleet/explore, once per state of the results.
    Audio is read from the source store.

    Examples: `vfleet explore --shards results`, `vfleet explore --against-revision 3f9c2a` (`vfleet shards ls` lists
    the revisions)
    """
    import webbrowser

    from validation.analysis.explore.server import is_port_free, make_explore_server

    context = open_context(
        rules,
        against or [],
        decisions,
        suite=suite,
        shards=shards,
        bucket=bucket,
        revision=revision,
        against_revision=against_revision,
    )
    if port is None:
        port = EXPLORE_PORT if is_port_free(EXPLORE_PORT) else 0
        if port == 0:
            say(f"port {EXPLORE_PORT} is used by another program, so links of reports do not open this page")
    try:
        server, address = make_explore_server(context, port=port)
    except (OSError, SystemExit) as error:
        raise BadInput(f"port {port} of 127.0.0.1 cannot be used: {error}") from None
    say(f"{context.title}\n{address}\nonly this machine can open it; Ctrl-C ends")
    if browser:
        webbrowser.open(address)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        context.table.close()
        if context.revisions is not None:
            context.revisions.close()


def reviews(
    folder: Annotated[Path, typer.Argument(help="Folder to write; made if missing.")],
    decisions: DecisionsOption = Path("reviews.jsonl"),
) -> int:
    """Write the segments that were accepted or corrected in `vfleet explore` as trusted clips, with their audio.

    Exit 1 if the audio of a segment is missing.

    Example: `vfleet reviews clips`, then `vfleet calibrate clips`
    """
    from validation.analysis.explore.audio import SourceAudio
    from validation.analysis.explore.reviews import Reviews, write_trusted_clips
    from validation.settings import load_settings

    if not decisions.is_file():
        raise BadInput(f"{decisions} does not exist: `vfleet explore` writes the decisions to it")
    found = Reviews(decisions).all()
    left_out = write_trusted_clips(found, SourceAudio(load_settings()), folder)
    for name, reason in left_out.items():
        say(f"{name} is left out: {reason}")
    trusted = sum(1 for review in found if review.trusted_text)
    say(f"{trusted - len(left_out)} of {len(found)} reviewed segments written to {folder} as trusted clips")
    return ExitCode.FAILED if left_out else ExitCode.OK


def open_context(
    rules: str | None,
    against: list[str],
    reviews: Path,
    *,
    suite: str | None,
    shards: Path | None,
    bucket: str | None,
    revision: str | None,
    against_revision: str | None = None,
) -> "ExploreContext":
    """Open the segments, rules, review decisions and audio that the page shows.

    The DuckDB files of the segments are built first if the cache lacks them, which reads all shards.
    """
    from validation.analysis.explore.audio import SourceAudio
    from validation.analysis.explore.context import ExploreContext
    from validation.analysis.explore.database import default_cache, prepare_database
    from validation.analysis.explore.queries import SegmentTable
    from validation.analysis.explore.reviews import Reviews
    from validation.analysis.explore.revisions import RevisionComparison
    from validation.analysis.selection.sources import read_fields

    source = find_source(suite=suite, shards=shards, bucket=bucket, revision=revision)
    book, kept = find_rules(rules, source.suite), Reviews(reviews)
    settings = load_results_settings(bucket)
    path = prepare_database(source, book, default_cache(), _say_progress)
    revisions = None
    if against_revision is not None:
        then = find_source(suite=source.suite, shards=shards, bucket=bucket, revision=against_revision)
        earlier = prepare_database(then, book, default_cache(), _say_progress)
        if earlier == path:
            raise BadInput(f"no revision is later than {against_revision}: there is nothing to compare it with")
        revisions = RevisionComparison(against_revision, earlier, path)
    table = SegmentTable(path)
    table.check_rules(book)
    described = {
        name: (
            (field.metadata or {}).get(b"unit", b"").decode(),
            (field.metadata or {}).get(b"description", b"").decode(),
        )
        for name, field in read_fields(source, settings).items()
    }
    return ExploreContext(
        title=f"suite {source.suite}, rules {book.version}, {table.size():,} segments",
        table=table,
        rules=book,
        rules_text=read_rules_text(rules, source.suite)[0],
        reviews=kept,
        audio=SourceAudio(settings),
        described=described,
        other_rules=_find_other_rules(table, book, against, source.suite),
        revisions=revisions,
    )


def _say_progress(rows: int) -> None:
    say(f"{rows:,} segments copied")


def _find_other_rules(table: "SegmentTable", rules: "Rules", against: list[str], suite: str) -> "Mapping[str, Rules]":
    """Return the rules that the page can compare with its own, by name.

    They are the rules named in ``against``, the page's rules before the user edits them, and all packaged rules whose
    columns the table has.
    """
    from validation.scoring.rules_io import BadRules, load_rules, packaged_versions

    named = {name: find_rules(name, suite) for name in against}
    for book in named.values():
        table.check_rules(book)
    others = {**named, rules.version: rules}
    for name in packaged_versions():
        try:
            book = load_rules(name)
            table.check_rules(book)
        except BadRules:
            continue
        others.setdefault(name, book)
    return others

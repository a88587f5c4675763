"""`vfleet select`: which segments are good enough?"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from validation.cli import Subparsers

if TYPE_CHECKING:
    from validation.analysis.selection.sources import ShardSource
    from validation.analysis.selection.summary import Tally
    from validation.scoring.verdict import Decision, Rules


def add_select_command(commands: Subparsers) -> None:
    """Add the subcommand. What it needs is imported when it runs."""
    selecting = commands.add_parser(
        "select", help="judge committed shards by rules, and write down the segments that are good enough"
    )
    selecting.add_argument("out", nargs="?", type=Path, help="file to write: .parquet, .jsonl or .wds.jsonl")
    selecting.add_argument("--rules", help="a rules file, or the version of a packaged one (default: the suite's own)")
    selecting.add_argument("--keep", default="accept", help="verdicts to keep, comma-separated (default: accept)")
    selecting.add_argument("--suite", help="whose shards (default: VFLEET_SUITE, or the only one of a folder)")
    selecting.add_argument("--shards", type=Path, help="read from this copy of the results store")
    selecting.add_argument(
        "--format", choices=("parquet", "jsonl", "webdataset"), help="if the file's ending says none"
    )
    selecting.add_argument(
        "--revision",
        help="read nothing of revisions first committed after this one (default: of each model the newest answers)",
    )
    selecting.add_argument("--explain", metavar="VIDEO/SEGMENT", help="tell why one segment has its verdict, and end")
    selecting.set_defaults(command=run_select)


def run_select(options: argparse.Namespace) -> None:
    import polars as pl

    from validation.analysis.selection.explain import explain_verdict, find_segment
    from validation.analysis.selection.open import open_segments, scan_errors
    from validation.analysis.selection.summary import tally_selection
    from validation.analysis.selection.verdicts import judge_segments
    from validation.analysis.selection.write import guess_format, write_selection
    from validation.settings import load_settings

    keep, form = parse_verdicts(options.keep), None
    if options.out is not None and not options.explain:
        form = options.format or guess_format(options.out)
    source = find_source(options)
    rules = find_rules(options.rules, source.suite)
    with scan_errors(source.suite):
        judged = judge_segments(open_segments(source), rules)
        if options.explain:
            print("\n".join(explain_verdict(find_segment(judged, options.explain), rules)))
            return
        _print_tally(tally_selection(judged, rules, keep), rules)
        if form is not None:
            write_selection(judged.filter(pl.col("verdict").is_in(keep)), options.out, form, load_settings())
            print(f"written to {options.out} as {form}")


def find_source(options: argparse.Namespace) -> "ShardSource":
    """The shards that ``--suite`` and ``--shards`` name: by the ledger, or by manifests where no ledger is set."""
    from validation.analysis.selection.sources import find_committed, find_in_folder
    from validation.services import open_ledger
    from validation.settings import load_settings

    settings = load_settings()
    if options.shards is not None and not settings.database_url.get_secret_value():
        return find_in_folder(options.shards, options.suite)
    suite = options.suite or settings.suite
    return find_committed(open_ledger(), suite, settings, folder=options.shards, up_to=options.revision)


def find_rules(name: str | None, suite: str) -> "Rules":
    """The rules of a file, of a packaged version, or of the suite.

    Raises:
        BadInput: there is no such file or version, or the suite has no rules here.
        BadRules: the file does not hold rules.
    """
    from validation.errors import BadInput
    from validation.models.suites import SUITES
    from validation.scoring.rules_io import load_rules, parse_rules

    if name is None and suite not in SUITES:
        raise BadInput(f"suite {suite!r} has no rules here: name a file with --rules")
    if name is None or not name.endswith(".toml"):
        return load_rules(name or SUITES[suite].rules)
    try:
        return parse_rules(Path(name).read_text(encoding="utf-8"), file=name)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"rules file {name} cannot be read: {getattr(error, 'strerror', error)}") from None


def parse_verdicts(given: str) -> "list[Decision]":
    """Read verdicts, comma-separated.

    Raises:
        BadInput: one is none.
    """
    from validation.errors import BadInput
    from validation.scoring.verdict import Decision

    verdicts = [verdict.strip() for verdict in given.split(",")]
    if unknown := sorted(set(verdicts) - {"accept", "review", "reject"}):
        raise BadInput(f"{unknown[0]!r} is no verdict: write accept, review or reject")
    return [verdict for verdict in get_args(Decision) if verdict in verdicts]


def _print_tally(tally: "Tally", rules: "Rules") -> None:
    print(f"{'language':12} {'segments':>10} {'kept':>10} {'hours':>10} {'kept':>10}")
    for row in tally.languages:
        print(
            f"{row.language:12} {row.segments:10} {row.segments_kept:10} {row.hours:10.2f} {row.hours_kept:10.2f}"
            f" {row.hours_kept / row.hours if row.hours else 0:6.1%}"
        )
    print(f"{'lost to':32} {'segments':>10} {'hours':>10} {'alone':>10}")
    for lost in tally.reasons:
        print(f"{lost.reason:32} {lost.segments:10} {lost.hours:10.2f} {lost.hours_alone:10.2f}")
    changed = "no stored verdict to compare with" if tally.changed is None else f"verdicts changed: {tally.changed}"
    print(f"judged by {rules.version}; {changed}")

"""`vfleet calibrate`: limits that fit the user's own material."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from validation.cli import Subparsers
from validation.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from validation.calibration.evaluate import EvaluatedClip
    from validation.calibration.limits import Proposal
    from validation.calibration.metrics import Estimate
    from validation.scoring.verdict import Rules


def add_calibrate_command(commands: Subparsers) -> None:
    """Add the subcommand. What it needs is imported when it runs."""
    calibrating = commands.add_parser(
        "calibrate", help="plant faults in clips that you trust, and propose limits for the verdict rules"
    )
    calibrating.add_argument("trusted", type=Path, help="folder with clips and a manifest.json of file, text, language")
    calibrating.add_argument("--suite", help="which models (default: VFLEET_SUITE)")
    calibrating.add_argument("--rules", help="what to start from: a rules file or version (default: the suite's own)")
    calibrating.add_argument(
        "--loss", type=float, default=0.01, help="share of sound clips that a rule may cost (0.01)"
    )
    calibrating.add_argument("--out", type=Path, help="write the rules with the proposed limits to this file")
    calibrating.add_argument("--version", default="calibrated-1", help="what the new rules are called (calibrated-1)")
    calibrating.set_defaults(command=run_calibrate)


def run_calibrate(options: argparse.Namespace) -> None:
    from validation.calibration.evaluate import describe_columns, evaluate_clips
    from validation.calibration.fault_injection import inject_faults
    from validation.calibration.limits import apply_proposals, propose_limits, validate_limits
    from validation.calibration.trusted_clips import load_trusted
    from validation.cli.select import find_rules
    from validation.models.suite import load_suite
    from validation.scoring.rules_io import check_columns
    from validation.settings import load_settings

    if not 0 < options.loss < 1:
        raise BadInput(f"--loss {options.loss} is no share between 0 and 1")
    if options.out is not None and options.out.exists():
        raise BadInput(f"{options.out} exists: shards name the rules that judged them, so rules are never overwritten")
    clips = load_trusted(options.trusted)
    rules = find_rules(options.rules, options.suite or load_settings().suite)
    suite = load_suite(options.suite or load_settings().suite)
    check_columns(rules, describe_columns(suite.columns))
    specimens = inject_faults(clips)
    print(f"{len(clips)} clips, {len(specimens)} specimens", flush=True)
    heard = evaluate_clips(suite, specimens)
    proposals = list(propose_limits(heard, rules, bearable=options.loss))
    proposed = apply_proposals(rules, proposals, options.version)
    _print_proposals(proposals)
    _print_outcome(heard, rules, proposed, validate_limits(heard, rules, bearable=options.loss))
    if len(clips) < 1 / options.loss:
        print(f"{len(clips)} clips cannot tell a loss of {options.loss:.1%}: the limits lie beyond the worst of them")
    if options.out is not None:
        options.out.write_text(_spell(proposed, proposals, len(clips)), encoding="utf-8")
        print(f"written to {options.out}; `vfleet select --rules {options.out}` judges by it")


def _print_proposals(proposals: "Sequence[Proposal]") -> None:
    if not proposals:
        print("no limit is better moved")
        return
    print(f"{'rule':32} {'measure':24} {'limit':>10} {'now':>10} {'costs':>20} {'finds':>12}")
    for each in proposals:
        name = f"{each.rule.reason} ({each.rule.verdict})"
        measure = f"{each.condition.column} {each.condition.op}"
        finds = f"{each.finds_before} -> {each.finds}"
        print(f"{name:32} {measure:24} {each.limit:10} {each.condition.value!s:>10} {each.loss!s:>20} {finds:>12}")


def _print_outcome(
    heard: "Sequence[EvaluatedClip]", rules: "Rules", proposed: "Rules", unseen: "tuple[Estimate, Estimate]"
) -> None:
    from validation.calibration.limits import count_loss, found_by_fault

    for book in (rules, proposed):
        rejected, doubted = count_loss(heard, book)
        print(f"{book.version}: of these sound segments: rejected {rejected}, not accepted {doubted}")
    rejected, doubted = unseen
    print(
        f"{proposed.version}: expected loss of sound segments, by limits that the others set: "
        f"rejected {rejected}, not accepted {doubted}"
    )
    before, after = found_by_fault(heard, rules), found_by_fault(heard, proposed)
    print(f"{'not accepted':24} {rules.version:>14} {proposed.version:>14}")
    for fault, share in before.items():
        print(f"{fault:24} {share:14.0%} {after[fault]:14.0%}")


def _spell(rules: "Rules", proposals: "Sequence[Proposal]", clips: int) -> str:
    from validation.scoring.rules_io import dump_rules

    notes = {
        each.place: f"The limit was {each.condition.value}. Of {clips} trusted clips it costs {each.loss}."
        for each in proposals
    }
    return dump_rules(rules, preface=f"Limits proposed by `vfleet calibrate` from {clips} trusted clips.", notes=notes)

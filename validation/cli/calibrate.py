"""`vfleet calibrate`: limits of verdict rules, measured on clips that the user trusts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validation.cli.results import RulesOption, find_rules
from validation.errors import BadInput
from validation.output import print_table, say, say_json

if TYPE_CHECKING:
    from validation.calibration.evaluate import EvaluatedClip
    from validation.calibration.limits import Proposal
    from validation.calibration.metrics import Estimate
    from validation.scoring.verdict import Rules

PANEL = "Results"


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(calibrate)


def calibrate(
    trusted: Annotated[Path, typer.Argument(help="Folder of clips with a manifest.json of file, text, language.")],
    suite: Annotated[str | None, typer.Option(help="Which models; VFLEET_SUITE by default.")] = None,
    rules: RulesOption = None,
    loss: Annotated[float, typer.Option(help="Share of sound clips that one rule may reject.")] = 0.01,
    out: Annotated[Path | None, typer.Option(help="File for the rules with the proposed limits.")] = None,
    version: Annotated[str, typer.Option(help="Version of the new rules.")] = "calibrated-1",
    json: Annotated[bool, typer.Option("--json", help="Print the proposals as strict JSON, one per line.")] = False,
) -> None:
    """Inject faults into clips that you trust, score them, and propose limits for the verdict rules.

    Example: `vfleet calibrate clips --out mine.toml`, then `vfleet select --rules mine.toml`
    """
    from validation.calibration.evaluate import describe_columns, evaluate_clips
    from validation.calibration.fault_injection import inject_faults
    from validation.calibration.limits import apply_proposals, propose_limits, validate_limits
    from validation.calibration.trusted_clips import load_trusted
    from validation.models.suite import load_suite
    from validation.scoring.rules_io import check_columns
    from validation.settings import load_settings

    if not 0 < loss < 1:
        raise BadInput(f"--loss {loss} is not a share between 0 and 1")
    if out is not None and out.exists():
        raise BadInput(f"{out} exists: shards name the rules that gave their verdicts, so rules are never overwritten")
    clips = load_trusted(trusted)
    suite_name = suite or load_settings().suite
    book = find_rules(rules, suite_name)
    models = load_suite(suite_name)
    check_columns(book, describe_columns(models.columns))
    variants = inject_faults(clips)
    if not json:
        say(f"{len(clips)} clips, {len(variants)} variants, sound and with one fault each")
    evaluated = evaluate_clips(models, variants)
    proposals = list(propose_limits(evaluated, book, max_loss=loss))
    proposed = apply_proposals(book, proposals, version)
    if json:
        for proposal in proposals:
            say_json(proposal)
    else:
        _print_proposals(proposals)
        _print_outcome(evaluated, book, proposed, validate_limits(evaluated, book, max_loss=loss))
        if len(clips) < 1 / loss:
            say(
                f"{len(clips)} clips are too few to measure a loss of {loss:.1%}: "
                "the limits lie beyond the worst of the clips"
            )
    if out is not None:
        out.write_text(_dump(proposed, proposals, len(clips)), encoding="utf-8")
        if not json:
            say(f"written to {out}; `vfleet select --rules {out}` applies it")


def _print_proposals(proposals: "Sequence[Proposal]") -> None:
    if not proposals:
        say("no limit is proposed: none finds more faults at the allowed loss")
        return
    print_table(
        ("rule", "column", "limit", "now", "loss", "finds"),
        [
            (
                f"{each.rule.reason} ({each.rule.verdict})",
                f"{each.condition.column} {each.condition.op}",
                each.limit,
                f"{each.condition.value}",
                f"{each.loss}",
                f"{each.finds_before} -> {each.finds}",
            )
            for each in proposals
        ],
    )


def _print_outcome(
    evaluated: "Sequence[EvaluatedClip]", rules: "Rules", proposed: "Rules", unseen: "tuple[Estimate, Estimate]"
) -> None:
    from validation.calibration.limits import count_loss, found_by_fault

    for book in (rules, proposed):
        rejected, not_accepted = count_loss(evaluated, book)
        say(f"{book.version}: of the sound segments: rejected {rejected}, not accepted {not_accepted}")
    rejected, not_accepted = unseen
    say(
        f"{proposed.version}: expected on unseen sound segments (cross-validated): "
        f"rejected {rejected}, not accepted {not_accepted}"
    )
    before, after = found_by_fault(evaluated, rules), found_by_fault(evaluated, proposed)
    print_table(
        ("not accepted", rules.version, proposed.version),
        [(fault, f"{share:.0%}", f"{after[fault]:.0%}") for fault, share in before.items()],
    )


def _dump(rules: "Rules", proposals: "Sequence[Proposal]", clips: int) -> str:
    from validation.scoring.rules_io import dump_rules

    notes = {
        each.place: f"The limit was {each.condition.value}. Of {clips} trusted clips it costs {each.loss}."
        for each in proposals
    }
    return dump_rules(rules, preface=f"Limits proposed by `vfleet calibrate` from {clips} trusted clips.", notes=notes)

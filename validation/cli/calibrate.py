"""`vfleet calibrate`: propose limits of verdict rules, from clips that the user trusts or from selected segments."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validation.cli.results import RulesOption, read_rules_text
from validation.errors import BadInput
from validation.output import print_json, print_table, say

if TYPE_CHECKING:
    from validation.calibration.language_limits import LanguageLimit
    from validation.calibration.limits import Proposal
    from validation.calibration.metrics import Estimate, EvaluatedClip
    from validation.scoring.verdict import Rules

PANEL = "Results"
MIN_CLIPS = 20
"""Minimum number of clips for a rules file. A limit that none of 19 clips exceeds may still reject up to 15 % of other
clips, at 95 % confidence."""


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(calibrate)


def calibrate(
    trusted: Annotated[
        Path | None, typer.Argument(help="Folder of clips with a manifest.json of file, text, language.")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Suite of models; VFLEET_SUITE by default.")] = None,
    rules: RulesOption = None,
    shards: Annotated[
        Path | None,
        typer.Option(help="Segments of `vfleet select FILE --keep accept,review,reject`, for limits by language."),
    ] = None,
    loss: Annotated[
        float, typer.Option(help="Maximum share of sound clips, or of a language's segments, for which one rule fires.")
    ] = 0.01,
    min_clips: Annotated[int, typer.Option(help="With fewer clips, no rules file is written.", min=1)] = MIN_CLIPS,
    out: Annotated[Path | None, typer.Option(help="File for the rules with the proposed limits.")] = None,
    version: Annotated[str, typer.Option(help="Version of the new rules.")] = "calibrated-1",
    json: Annotated[bool, typer.Option("--json", help="Print the proposals as strict JSON, one per line.")] = False,
) -> None:
    """Propose limits for the verdict rules: from faults injected into clips that you trust, or by language from shards.

    Example: `vfleet calibrate clips --out mine.toml`, then `vfleet select --rules mine.toml`
    """
    from validation.settings import load_settings

    if not 0 < loss < 1:
        raise BadInput(f"--loss {loss} is not a share between 0 and 1")
    if (trusted is None) is (shards is None):
        raise BadInput("name either a folder of trusted clips or --shards, not both")
    if out is not None and out.exists():
        raise BadInput(f"{out} exists: shards name the rules that gave their verdicts, so rules are never overwritten")
    suite_name = suite or load_settings().suite
    text, file = read_rules_text(rules, suite_name)
    if trusted is not None:
        written = _from_clips(
            trusted, suite_name, text, file, loss, version, quiet=json, min_clips=min_clips if out else 0
        )
    else:
        written = _from_shards(shards, text, file, loss, version, quiet=json)
    if out is not None:
        out.write_text(written, encoding="utf-8")
        if not json:
            say(f"written to {out}; `vfleet select --rules {out}` applies it")


def _from_shards(shards: Path | None, text: str, file: str, loss: float, version: str, *, quiet: bool) -> str:
    """Print the limits by language that ``shards`` suggests, and return the text of a rules file with these limits."""
    import polars as pl

    from validation.calibration.language_limits import (
        MIN_SEGMENTS,
        apply_language_limits,
        list_conditions,
        propose_language_limits,
    )
    from validation.scoring.rules_io import parse_rules, rewrite_rules

    if shards is not None and shards.is_dir():
        raise BadInput(
            f"{shards} is a folder: write its segments to a file with "
            "`vfleet select FILE --keep accept,review,reject --shards FOLDER`, which leaves out superseded ones"
        )
    try:
        segments = pl.scan_parquet(str(shards))
        names = segments.collect_schema().names()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise BadInput(f"{shards} cannot be read as parquet: {error}") from None
    if missing := {"language_code", "text", "fault"} - set(names):
        raise BadInput(
            f"{shards} has no column {min(missing)}: write it with `vfleet select FILE --keep accept,review,reject`"
        )
    book = parse_rules(text, file)
    counts = segments.select(pl.len(), pl.col("language_code").n_unique()).collect(engine="streaming")
    rows, counted = counts.row(0)
    limits = list(propose_language_limits(segments.filter(pl.col("fault").is_null()), book, share=loss))
    if not limits:
        raise BadInput(
            f"none of the {counted} languages in {rows} segments has {MIN_SEGMENTS} segments with the signals of "
            f"{book.version}: no limit is proposed"
        )
    if quiet:
        for each in limits:
            print_json(asdict(each) | {"condition": each.condition.model_dump()})
    else:
        _print_language_limits(book, limits)
        tried, languages = len(list(list_conditions(book, names))), {each.language for each in limits}
        say(
            f"{tried} limits were tried for each of {counted} languages; {len(languages)} languages have the "
            f"{MIN_SEGMENTS} segments that a limit needs"
        )
    preface = f"Limits by language proposed by `vfleet calibrate` from {rows} segments: {loss:.1%} of each language."
    return rewrite_rules(text, apply_language_limits(book, limits, version), preface=preface, notes={})


def _print_language_limits(rules: "Rules", limits: "Sequence[LanguageLimit]") -> None:
    print_table(
        ("rule", "column", "language", "segments", "limit", "now", "finds of swapped"),
        [
            (
                rules.rules[each.place].reason,
                f"{each.condition.column} {each.condition.op}",
                each.language,
                each.segments,
                each.limit,
                f"{each.condition.limit_for(each.language)}",
                "" if each.found_swapped is None else f"{each.found_swapped:.0%}",
            )
            for each in limits
        ],
    )


def _from_clips(
    trusted: Path, suite: str, text: str, file: str, loss: float, version: str, *, quiet: bool, min_clips: int
) -> str:
    """Print the limits proposed from trusted clips, and return the text of a rules file with these limits."""
    from validation.calibration.fault_injection import inject_faults
    from validation.calibration.limits import (
        apply_proposals,
        count_adjustable,
        cross_validate_false_alarms,
        propose_limits,
    )
    from validation.calibration.metrics import evaluate_clips, signal_types
    from validation.calibration.trusted_clips import load_trusted_clips
    from validation.models.suite import load_suite
    from validation.scoring.rules_io import check_columns, parse_rules, rewrite_rules

    clips = load_trusted_clips(trusted)
    if len(clips) < min_clips:
        raise BadInput(f"{len(clips)} clips are too few to write limits: {min_clips} are needed (--min-clips)")
    book = parse_rules(text, file)
    models = load_suite(suite)
    check_columns(book, signal_types(models.columns))
    variants = inject_faults(clips)
    if not quiet:
        say(f"{len(clips)} clips, {len(variants)} variants, sound and with one fault each")
    evaluated = evaluate_clips(models, variants)
    proposals = list(propose_limits(evaluated, book, max_loss=loss))
    proposed = apply_proposals(book, proposals, version)
    if quiet:
        for each in proposals:
            print_json(asdict(each) | {"rule": each.rule.model_dump(), "condition": each.condition.model_dump()})
    else:
        _print_proposals(proposals)
        say(f"{count_adjustable(book)} limits of {len(book.rules)} rules were tried, {len(proposals)} are proposed")
        _print_losses(evaluated, book, proposed, cross_validate_false_alarms(evaluated, book, max_loss=loss))
        if len(clips) < 1 / loss:
            say(
                f"{len(clips)} clips are too few to measure a loss of {loss:.1%}: "
                "the limits lie beyond the worst of the clips"
            )
    notes = {
        each.place: f"The limit was {each.condition.value}. Of {len(clips)} trusted clips it costs {each.loss}."
        for each in proposals
    }
    preface = f"Limits proposed by `vfleet calibrate` from {len(clips)} trusted clips."
    return rewrite_rules(text, proposed, preface=preface, notes=notes)


def _print_proposals(proposals: "Sequence[Proposal]") -> None:
    if not proposals:
        say("no limit finds more faults at the allowed loss")
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


def _print_losses(
    evaluated: "Sequence[EvaluatedClip]", rules: "Rules", proposed: "Rules", unseen: "tuple[Estimate, Estimate]"
) -> None:
    """Print how many sound variants both rules lose, and the share of each fault that they find.

    ``unseen`` is the result of ``cross_validate_false_alarms``.
    """
    from validation.calibration.limits import detection_rate_by_fault, measure_false_alarms

    for book in (rules, proposed):
        rejected, not_accepted = measure_false_alarms(evaluated, book)
        say(f"{book.version}: of the sound segments: rejected {rejected}, not accepted {not_accepted}")
    rejected, not_accepted = unseen
    say(
        f"{proposed.version}: expected on unseen sound segments (cross-validated): "
        f"rejected {rejected}, not accepted {not_accepted}"
    )
    before, after = detection_rate_by_fault(evaluated, rules), detection_rate_by_fault(evaluated, proposed)
    print_table(
        ("not accepted", rules.version, proposed.version),
        [(fault, f"{share:.0%}", f"{after[fault]:.0%}") for fault, share in before.items()],
    )

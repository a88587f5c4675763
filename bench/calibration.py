"""Measure how many injected faults the signals and the rules find in trusted clips, by language.

    python bench/calibration.py [--trusted FOLDER] [--suite local] [--first N] [--clip NAME] [--transcripts-only]
        [--natural-only] [--all] [--by-language] [--threads N]
        [--rejudge]

Each clip of natural speech is scored unchanged, with harmless changes, and with each fault in turn
(validation/calibration). espeak-ng makes synthetic speech from bench/sentences.toml. Of each language, the first
sentence is scored with most faults, and the other sentences with the faults of transcripts and labels.

The script prints the share of faults that are found and the AUC, and writes the results by language to
.local/truth.json. Answers of the models are cached in .local/truth/, so a run with other rules takes seconds. The
columns `held out` are measured on clips that were not used to choose limits. The clips are few, and
cleaner than a corpus, so the confidence intervals are wide.
"""

import argparse
import json
import time
from collections.abc import Sequence
from itertools import compress, groupby
from pathlib import Path
from zlib import crc32

from answer_cache import CachedSuite
from synthetic_speech import speak_sentences
from truth_report import describe_group, format_languages, format_table, group_clips, group_languages

from validation.calibration.fault_injection import FAULTS, ClipVariant, find_missing_faults, inject_faults
from validation.calibration.metrics import IndicatorReport, evaluate_clips, measure_indicators
from validation.calibration.trusted_clips import TrustedClip, load_trusted_clips
from validation.domain import Utterance
from validation.local.sample_corpus import CLIPS

OUT = Path(__file__).parents[1] / ".local"
BEST = 3
TEXT_FAULTS = frozenset(
    {
        "swapped transcript", "half transcript", "repeated transcript", "one wrong word", "one missing word",
        "wrong language",
    }
)  # fmt: skip
SYNTHETIC_VARIANTS = frozenset(
    {
        "as it is", "noise at 20 dB", "music at 10 dB", "speaker at 10 dB", "flat clipping", "telephone band",
        "last 15 % missing", "last 40 % missing", "shift of 0.4 s", "shift of 1 s",
    }
)  # fmt: skip
"""Variants with changed audio that are made of synthetic speech. Other changes depend little on the language."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trusted", type=Path, default=CLIPS)
    parser.add_argument("--suite", default="local")
    parser.add_argument("--first", type=int, metavar="N", help="only N clips of each kind, chosen by their names")
    parser.add_argument("--clip", action="append", metavar="NAME", help="only this clip; may be repeated")
    parser.add_argument(
        "--transcripts-only", action="store_true", help="faults of transcripts and labels: a fifth of the time"
    )
    parser.add_argument("--natural-only", action="store_true", help="no synthetic speech")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads of each model; default: all cores")
    parser.add_argument("--rejudge", action="store_true", help="only what an earlier run scored; no model runs")
    parser.add_argument("--all", action="store_true", help="print every indicator of each fault, not the best three")
    parser.add_argument("--by-language", action="store_true", help="print a table of the languages as well")
    options = parser.parse_args()
    clips = load_trusted_clips(options.trusted) + ([] if options.natural_only else speak_sentences())
    variants = plan_variants(clips, options.first)
    if options.clip:
        variants = [each for each in variants if each.original in options.clip]
    if options.transcripts_only:
        variants = [each for each in variants if each.fault in TEXT_FAULTS or each.variant == "as it is"]
    for fault in find_missing_faults(variants):
        print(f"not injected: {fault}; these clips do not allow it (see validation/calibration/fault_injection.py)")
    scorer, began_s = CachedSuite(options.suite, OUT / "truth", threads=options.threads), time.perf_counter()
    if options.rejudge:
        scored = scorer.are_scored([Utterance(each.audio, each.text, each.language) for each in variants])
        variants = list(compress(variants, scored))
    evaluated = evaluate_clips(scorer, variants)
    rules = scorer.suite.rules
    print(
        f"{len({each.original for each in variants})} clips in {len(variants)} variants, scored by suite "
        f"{options.suite} in {time.perf_counter() - began_s:.0f} s, judged by {rules.version}\n"
    )
    groups = {group.name: describe_group(group, rules) for group in group_clips(evaluated) if group}
    languages = {group.name: describe_group(group, rules) for group in group_languages(evaluated) if group}
    print("\n".join(format_table(groups)))
    if options.by_language:
        print("\n".join(["", *format_languages(languages)]))
    print_indicators(list(measure_indicators(evaluated, rules)), most=None if options.all else BEST)
    told = {"suite": options.suite, "rules": rules.version, "groups": groups, "languages": languages}
    OUT.mkdir(exist_ok=True)
    (OUT / "truth.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    print(f"\nwritten to {OUT / 'truth.json'}")


def plan_variants(clips: Sequence[TrustedClip], most: int | None = None) -> list[ClipVariant]:
    """Make the variants to score, of all clips or of at most ``most`` natural and ``most`` synthetic clips.

    Clips are chosen by the checksums of their names, so a larger number only adds clips.
    """
    variants = [each for each in inject_faults(clips) if not each.is_synthetic or _is_planned(each)]
    chosen: set[str] = set()
    for is_synthetic in (False, True):
        names = {each.original for each in variants if each.is_synthetic is is_synthetic}
        chosen |= set(sorted(names, key=lambda name: crc32(name.encode()))[:most])
    return [each for each in variants if each.original in chosen]


def _is_planned(synthetic: ClipVariant) -> bool:
    first = synthetic.original.endswith("-0")
    return synthetic.fault in TEXT_FAULTS or synthetic.variant in (SYNTHETIC_VARIANTS if first else {"as it is"})


def print_indicators(indicators: Sequence[IndicatorReport], *, most: int | None) -> None:
    print(f"\n{'fault':22} {'indicator':28} {'AUC':>20} {'recall at 1 % FPR':>22}")
    by_fault = sorted(indicators, key=lambda row: (list(FAULTS).index(row.fault), -row.auc.value, -row.recall.value))
    for _, rows in groupby(by_fault, key=lambda row: row.fault):
        for row in list(rows)[:most]:
            print(f"{row.fault:22} {row.indicator!s:28} {row.auc!s:>20} {row.recall!s:>22}")


if __name__ == "__main__":
    main()

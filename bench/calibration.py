"""Accuracy of the verdicts: which injected faults the signals and the rules find in trusted clips.

    python bench/calibration.py [--trusted FOLDER] [--suite local] [--all] [--share FAULT=SHARE ...]

Each clip is scored unchanged, with harmless changes, and with each fault in turn (validation/calibration). Prints AUC
and recall at 1 % false positives for the best indicators of each fault (with --all, for all), and the verdicts of each
fault; writes everything to bench/out/calibration.json. --share swapped_transcript=0.1 gives one variant of ten that
fault, by leaving out variants; a share that the clips do not allow is refused. The packaged clips are 23 in 8
languages: too few to tell 1 % from 10 %, as the confidence bounds show. The clean clips are cleaner than a corpus, so
recall on a corpus is lower.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from validation.calibration.evaluate import evaluate_clips
from validation.calibration.fault_injection import FAULTS, HARMLESS, find_missing_faults, inject_faults, inject_shares
from validation.calibration.metrics import IndicatorReport, VerdictReport, measure_indicators, measure_verdicts
from validation.calibration.trusted_clips import load_trusted
from validation.local.sample_corpus import CLIPS
from validation.models.suite import load_suite

OUT = Path(__file__).parent / "out"
BEST = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trusted", type=Path, default=CLIPS)
    parser.add_argument("--suite", default="local")
    parser.add_argument("--all", action="store_true", help="print every indicator of each fault, not the best three")
    parser.add_argument("--share", type=parse_share, action="append", default=[], metavar="FAULT=SHARE",
                        help="of all variants; the other faults are as frequent as the clips allow")  # fmt: skip
    options = parser.parse_args()
    suite, clips = load_suite(options.suite), load_trusted(options.trusted)
    variants = inject_shares(inject_faults(clips), dict(options.share))
    for fault in find_missing_faults(variants):
        print(f"not injected: {fault}; these clips do not allow it (see validation/calibration/fault_injection.py)")
    began_s = time.perf_counter()
    evaluated = evaluate_clips(suite, variants)
    print(
        f"{len(clips)} clips, each in {len(HARMLESS)} harmless variants and with up to {len(FAULTS)} faults: "
        f"{len(variants)} variants, scored by suite {suite.name} in {time.perf_counter() - began_s:.0f} s"
    )
    indicators, verdicts = (
        list(measure_indicators(evaluated, suite.rules)),
        list(measure_verdicts(evaluated, suite.rules)),
    )
    print_verdicts(verdicts, len(variants))
    print_indicators(indicators, most=None if options.all else BEST)
    write_report(indicators, verdicts)


def print_verdicts(verdicts: Sequence[VerdictReport], total: int) -> None:
    print(f"\n{'fault':22} {'share':>6} {'rejected':>20} {'rejected or review':>20}")
    for row in verdicts:
        print(f"{row.fault:22} {row.count / total:6.1%} {row.rejected!s:>20} {row.not_accepted!s:>20}")


def parse_share(given: str) -> tuple[str, float]:
    fault, _, share = given.partition("=")
    return fault.replace("_", " "), float(share)


def print_indicators(indicators: Sequence[IndicatorReport], *, most: int | None) -> None:
    print(f"\n{'fault':22} {'indicator':28} {'AUC':>20} {'recall at 1 % FPR':>22}")
    by_fault = sorted(indicators, key=lambda row: (list(FAULTS).index(row.fault), -row.auc.value, -row.recall.value))
    for _, rows in groupby(by_fault, key=lambda row: row.fault):
        for row in list(rows)[:most]:
            print(f"{row.fault:22} {row.indicator!s:28} {row.auc!s:>20} {row.recall!s:>22}")


def write_report(indicators: Sequence[IndicatorReport], verdicts: Sequence[VerdictReport]) -> None:
    OUT.mkdir(exist_ok=True)
    report = {"indicators": [asdict(row) for row in indicators], "verdicts": [asdict(row) for row in verdicts]}
    (OUT / "calibration.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

"""``python -m simulation.market``: simulate a fleet against a failing market and report what it cost."""

import argparse
import sys
from pathlib import Path

from simulation.market.run import run_soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation.market", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".local"), help="where the report goes (default: .local)")
    parser.add_argument("--machines", type=int, default=100, help="slots (default: 100)")
    parser.add_argument("--hours", type=float, default=24.0, help="simulated hours (default: 24)")
    parser.add_argument("--seed", type=int, default=1, help="decides the market and every failure")
    options = parser.parse_args()
    if options.machines < 1 or options.hours <= 0:
        parser.error("--machines must be at least 1 and --hours above 0")
    return run_soak(options.folder, machines=options.machines, hours=options.hours, seed=options.seed)


if __name__ == "__main__":
    sys.exit(main())

"""``python -m simulation.chaos``: inject faults into a fleet on this machine, then check its state."""

import argparse
import sys
from pathlib import Path

from simulation.chaos.run import run_chaos


def main() -> int:
    """Run a chaos run. Return 0 if it passed, 1 after a violation, 4 if a kind of fault found no target."""
    parser = argparse.ArgumentParser(prog="python -m simulation.chaos", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".local"), help="folder of the stack, logs and report")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=1, help="decides which fault is injected when, and into which box")
    parser.add_argument("--boxes", type=int, default=2, help="boxes; each runs a worker with two flow runs")
    parser.add_argument("--drain-within", type=float, default=600.0, help="seconds within which the queue must drain")
    options = parser.parse_args()
    return run_chaos(
        options.folder,
        minutes=options.minutes,
        seed=options.seed,
        boxes=options.boxes,
        drain_timeout_s=options.drain_within,
    )


if __name__ == "__main__":
    sys.exit(main())

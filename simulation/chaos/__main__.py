"""``python -m simulation.chaos``: inject faults into a fleet on this machine, then audit what is left."""

import argparse
import sys
from pathlib import Path

from simulation.chaos.run import run_chaos


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation.chaos", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".local"), help="where everything is kept")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are injected")
    parser.add_argument("--seed", type=int, default=1, help="decides which faults are injected where, and when")
    parser.add_argument("--boxes", type=int, default=2, help="boxes with a worker, two flow runs each")
    parser.add_argument("--drain-within", type=float, default=600.0, help="seconds in which the queue must drain")
    options = parser.parse_args()
    return run_chaos(
        options.folder,
        minutes=options.minutes,
        seed=options.seed,
        boxes=options.boxes,
        drain_within_s=options.drain_within,
    )


if __name__ == "__main__":
    sys.exit(main())

"""`vfleet chaos`."""

import argparse
from pathlib import Path

from validation.commands import Subparsers


def add_chaos_command(commands: Subparsers) -> None:
    """Add the subcommand. What it needs is imported when it runs."""
    chaos = commands.add_parser("chaos", help="strike a fleet on this machine with faults, then audit what is left")
    chaos.add_argument("--folder", type=Path, default=Path(".local"), help="where everything is kept")
    chaos.add_argument("--minutes", type=float, default=10.0, help="how long faults strike")
    chaos.add_argument("--seed", type=int, default=1, help="decides which faults strike whom, and when")
    chaos.add_argument("--boxes", type=int, default=2, help="machines with a worker, two flow runs each")
    chaos.add_argument("--drain-within", type=float, default=600.0, help="seconds in which the queue must drain")
    chaos.set_defaults(command=run_chaos_command)


def run_chaos_command(options: argparse.Namespace) -> int:
    from validation.local.chaos.run import run_chaos

    return run_chaos(
        options.folder,
        minutes=options.minutes,
        seed=options.seed,
        boxes=options.boxes,
        drain_within_s=options.drain_within,
    )

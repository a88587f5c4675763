"""`vfleet fleet`: the rented machines."""

import argparse
from pathlib import Path
from typing import Any

from validation.commands import Subparsers
from validation.errors import BadInput


def add_fleet_commands(subparsers: Subparsers) -> None:
    """Add `fleet` with its commands. What they need is imported when one runs."""
    fleet = subparsers.add_parser("fleet", help="rented machines: plan, up, down, status, blacklist, soak")
    commands = fleet.add_subparsers(title="commands", required=True)

    up = _add(commands, "up", "say how many machines are wanted, at what price and for how much in all")
    up.add_argument("--machines", type=int, required=True, help="how many GPUs")
    up.add_argument("--budget", type=float, required=True, help="dollars for all that this fleet ever rents")
    up.add_argument("--max-usd-per-hour", type=float, required=True, help="dollars an hour for all machines together")
    up.add_argument("--max-price", type=float, help="dollars an hour for one machine")
    up.add_argument("--image", required=True, help="the worker image, best by digest")
    up.add_argument("--gpu", action="append", help='a card, such as "RTX 3090"; may be repeated')
    up.add_argument("--cuda", type=float, help="the CUDA that the image was built for (default: 13.0)")
    up.add_argument("--disk", type=float, help="GB of disk")
    up.add_argument("--inet-down", type=float, help="Mb/s down")

    down = _add(commands, "down", "let every machine finish its chunk and go")
    down.add_argument("--now", action="store_true", help="destroy them at once, and return when none is left")

    _add(commands, "plan", "show what the next tick would do, and what it costs; change nothing")
    _add(commands, "status", "show every machine, and the money")

    banned = _add(commands, "blacklist", "machines and hosts that are not rented for a while")
    banned.add_argument("--pardon", nargs=2, metavar=("KIND", "ID"), help="lift a ban: machine 123, or host 45")

    _add_soak(commands)


def _add_soak(commands: Subparsers) -> None:
    soak = commands.add_parser("soak", help="simulate a day against a vendor with every fault, and what it costs")
    soak.add_argument("--folder", type=Path, default=Path(".local"), help="where the report goes (default: .local)")
    soak.add_argument("--machines", type=int, default=100, help="slots (default: 100)")
    soak.add_argument("--hours", type=float, default=24.0, help="simulated hours (default: 24)")
    soak.add_argument("--seed", type=int, default=1, help="decides the market and every fault")
    soak.set_defaults(command=run_soak_command)


def run_soak_command(options: argparse.Namespace) -> int:
    from validation.local.soak.run import run_soak

    if options.machines < 1 or options.hours <= 0:
        raise BadInput("give at least one machine, and hours above 0")
    return run_soak(options.folder, machines=options.machines, hours=options.hours, seed=options.seed)


def _add(commands: Subparsers, name: str, help_text: str) -> argparse.ArgumentParser:
    def run(options: argparse.Namespace) -> Any:
        from validation.fleet import operate

        return getattr(operate, name)(options)

    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("--fleet", default="main", help="which fleet (default: main)")
    parser.set_defaults(command=run)
    return parser

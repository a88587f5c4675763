"""`vfleet fleet`: the rented machines."""

import argparse
from typing import Any

from validation.cli import Subparsers


def add_fleet_commands(subparsers: Subparsers) -> None:
    """Add `fleet` with its commands. What they need is imported when one runs."""
    fleet = subparsers.add_parser("fleet", help="rented machines: plan, up, down, status, blacklist")
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


def _add(commands: Subparsers, name: str, help_text: str) -> argparse.ArgumentParser:
    def run(options: argparse.Namespace) -> Any:
        from validation.fleet import commands as operate

        return getattr(operate, name)(options)

    parser = commands.add_parser(name, help=help_text)
    parser.add_argument("--fleet", default="main", help="which fleet (default: main)")
    parser.set_defaults(command=run)
    return parser

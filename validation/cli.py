"""`vfleet`: what an operator does by hand.

Exit codes: 0 done, 2 bad input, 3 a service is unreachable, 1 anything else.
"""

import argparse
import sys
from collections.abc import Sequence

from validation.commands.chaos import add_chaos_command
from validation.commands.fleet import add_fleet_commands
from validation.commands.here import add_here_commands
from validation.commands.queue import add_queue_commands
from validation.commands.upkeep import add_upkeep_commands
from validation.errors import BadInput, FleetError, Unreachable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A failure is one sentence on stderr, never a traceback."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except FleetError as error:
        print(f"vfleet: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("vfleet: interrupted", file=sys.stderr)
        return 130


def exit_code(error: FleetError) -> int:
    """2: the caller must change something; 3: a service must come back; 1: neither."""
    if isinstance(error, BadInput):
        return 2
    return 3 if isinstance(error, Unreachable) else 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vfleet", description="Operate the validation fleet.")
    commands = parser.add_subparsers(title="commands", required=True)
    add_queue_commands(commands)
    add_here_commands(commands)
    add_upkeep_commands(commands)
    add_fleet_commands(commands)
    add_chaos_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

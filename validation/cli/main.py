"""`vfleet`: what an operator does by hand.

Exit codes: `validation.exit_codes`.
"""

import argparse
import sys
from collections.abc import Sequence

from validation.cli.bootstrap import add_bootstrap_command
from validation.cli.box import add_box_commands
from validation.cli.calibrate import add_calibrate_command
from validation.cli.canaries import add_canaries_commands
from validation.cli.doctor import add_doctor_command
from validation.cli.fleet import add_fleet_commands
from validation.cli.gateway import add_gateway_commands
from validation.cli.here import add_here_commands
from validation.cli.inference import add_host_commands
from validation.cli.precision import add_precision_command
from validation.cli.queue import add_queue_commands
from validation.cli.report import add_report_command
from validation.cli.requeue import add_requeue_command
from validation.cli.select import add_select_command
from validation.cli.shards import add_shards_commands
from validation.cli.status import add_status_commands
from validation.cli.upkeep import add_upkeep_commands
from validation.cli.weights import add_weights_commands
from validation.errors import FleetError
from validation.exit_codes import ExitCode, exit_code_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A failure is one sentence on stderr, never a traceback."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except FleetError as error:
        print(f"vfleet: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        print("vfleet: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vfleet", description="Operate the validation fleet.")
    commands = parser.add_subparsers(title="commands", required=True)
    add_queue_commands(commands)
    add_requeue_command(commands)
    add_status_commands(commands)
    add_report_command(commands)
    add_here_commands(commands)
    add_host_commands(commands)
    add_bootstrap_command(commands)
    add_upkeep_commands(commands)
    add_fleet_commands(commands)
    add_box_commands(commands)
    add_gateway_commands(commands)
    add_doctor_command(commands)
    add_weights_commands(commands)
    add_precision_command(commands)
    add_select_command(commands)
    add_shards_commands(commands)
    add_calibrate_command(commands)
    add_canaries_commands(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

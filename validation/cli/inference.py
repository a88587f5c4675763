"""`vfleet host status | metrics`: how the model host of this box is."""

import argparse
from pathlib import Path
from typing import Any

from validation.cli import Subparsers


def add_host_commands(commands: Subparsers) -> None:
    host = commands.add_parser("host", help="ask this box's model host how it is")
    host.add_argument(
        "--socket", type=Path, default=None, help="where it listens (default: that of the worker named by WORKER_ID)"
    )
    asked = host.add_subparsers(title="commands", required=True)
    status = asked.add_parser("status", help="its counters, as JSON")
    status.set_defaults(command=print_status)
    metrics = asked.add_parser("metrics", help="the same as Prometheus text, for a textfile collector")
    metrics.set_defaults(command=print_metrics)


def print_status(options: argparse.Namespace) -> None:
    import json

    print(json.dumps(_ask(options), indent=2))


def print_metrics(options: argparse.Namespace) -> None:
    from validation.inference.status import render_metrics

    print(render_metrics(_ask(options)), end="")


def _ask(options: argparse.Namespace) -> dict[str, Any]:
    from validation.inference.client_io import read_status
    from validation.inference.protocol import find_socket
    from validation.settings import load_settings

    return read_status(options.socket or find_socket(load_settings().worker_id))

"""`vfleet inference`: the counters of this box's inference server."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from validation.escape import to_json

PANEL = "On a box"

inference_app = typer.Typer(no_args_is_help=True)

SocketOption: TypeAlias = Annotated[
    Path | None, typer.Option("--socket", help="Its socket; found by WORKER_ID by default.")
]


def add_commands(app: typer.Typer) -> None:
    app.add_typer(
        inference_app,
        name="inference",
        rich_help_panel=PANEL,
        help="This box's inference server: status, metrics.",
    )


@inference_app.command()
def status(socket: SocketOption = None) -> None:
    """Print its counters as strict JSON: batches, padding, queue age, each model's share of the time."""
    print(to_json(_read_status(socket), indent=2))


@inference_app.command()
def metrics(socket: SocketOption = None) -> None:
    """Print its counters as Prometheus text, for a textfile collector.

    Example: `vfleet inference metrics > /var/lib/node_exporter/vfleet.prom`
    """
    from validation.inference.status import render_metrics

    print(render_metrics(_read_status(socket)), end="")


def _read_status(socket: Path | None) -> dict[str, Any]:
    from validation.inference.client_io import read_status
    from validation.inference.protocol import find_socket
    from validation.settings import load_settings

    return read_status(socket or find_socket(load_settings().worker_id))

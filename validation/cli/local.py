"""`vfleet run-chunk | demo | inference`: do the work of a box on this machine, and inspect its inference server."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from validation.escape import to_json
from validation.output import say

PANEL = "On a box"
inference_app = typer.Typer(no_args_is_help=True)

SocketOption: TypeAlias = Annotated[
    Path | None, typer.Option("--socket", help="The server's socket; found by WORKER_ID by default.")
]


def add_commands(app: typer.Typer) -> None:
    app.command(name="run-chunk", rich_help_panel=PANEL)(run_chunk)
    app.command(rich_help_panel=PANEL)(demo)
    app.add_typer(
        inference_app,
        name="inference",
        rich_help_panel=PANEL,
        help="This box's inference server: status, metrics.",
    )


def run_chunk(
    size: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Videos to claim; PARQUET_SHARD_SIZE by default.")
    ] = None,
) -> None:
    """Claim one chunk and validate it here and now, without Prefect.

    Example: `vfleet run-chunk --size 5`
    """
    from validation.settings import load_settings
    from validation.worker.chunk import context
    from validation.worker.chunk.open import open_chunk_context

    done = context.run_chunk_here(open_chunk_context(load_settings()), size=size)
    if done is None:
        say("nothing to claim: no transcribed video is pending")
        return
    say(f"{done.videos_validated} videos validated ({done.segments} segments), {done.videos_failed} failed")


def demo(
    folder: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(".local"),
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the servers and the Prefect UI running until Ctrl-C.")
    ] = False,
) -> int:
    """Do the whole job on this machine: embedded servers, real speech, small real models."""
    from validation.local import demo as local_demo

    return local_demo.run_demo(folder, keep=keep)


@inference_app.command()
def status(socket: SocketOption = None) -> None:
    """Print the server's counters as strict JSON: batches, padding, queue age, each model's share of the time."""
    print(to_json(_read_status(socket), indent=2))


@inference_app.command()
def metrics(socket: SocketOption = None) -> None:
    """Print the server's counters as Prometheus text, for a textfile collector.

    Example: `vfleet inference metrics > /var/lib/node_exporter/vfleet.prom`
    """
    from validation.inference.status import render_metrics

    print(render_metrics(_read_status(socket)), end="")


def _read_status(socket: Path | None) -> dict[str, Any]:
    """Return the counters of the inference server on this box."""
    from validation.inference.client_io import read_status
    from validation.inference.protocol import find_socket
    from validation.settings import load_settings

    return read_status(socket or find_socket(load_settings().worker_id))

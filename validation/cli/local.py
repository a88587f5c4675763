"""`vfleet run-chunk | demo`: the work of a box on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from validation.output import say

PANEL = "On a box"


def add_commands(app: typer.Typer) -> None:
    app.command(name="run-chunk", rich_help_panel=PANEL)(run_chunk)
    app.command(rich_help_panel=PANEL)(demo)


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

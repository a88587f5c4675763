"""`vfleet status` and `vfleet alerts`: show progress, rate, cost and problems of the fleet."""

from typing import TYPE_CHECKING, Annotated

import typer

from validation.errors import BadInput
from validation.output import print_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from sqlalchemy import Engine

PANEL = "Fleet"


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(status)
    app.command(rich_help_panel=PANEL)(alerts)


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh the screen until Ctrl-C.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.5, help="Time between two refreshes of --watch.")
    ] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print strict JSON, with the history.")] = False,
) -> None:
    """Show how many videos are done, how fast, at what cost, and what is wrong.

    Examples: `vfleet status --watch`, `vfleet status --json`
    """
    from rich.console import Console

    from validation.analysis.status.fleet_status import dump_status, read_status
    from validation.analysis.status.terminal import render_status
    from validation.services import open_ledger

    if watch and json:
        raise BadInput("--watch and --json exclude each other: JSON is printed once")
    engine = open_ledger()
    if watch:
        watch_status(engine, every_s=every_s)
        return
    fleet_status = read_status(engine)
    if json:
        print_json(dump_status(fleet_status))
        return
    Console().print(render_status(fleet_status))


def alerts(json: Annotated[bool, typer.Option("--json", help="Print strict JSON.")] = False) -> None:
    """Show the alerts that are on, with what to do. Exits with 1 if one is on.

    Examples: `vfleet alerts`, `vfleet alerts --json`
    """
    from validation.analysis.status.alerts import find_firing, plain_remedy
    from validation.exit_codes import ExitCode
    from validation.output import print_table, say
    from validation.services import open_ledger

    firing = find_firing(open_ledger())
    if json:
        print_json([found.to_json() for found in firing])
    else:
        rows = [
            (found.alert.name, found.alert.severity, len(found.rows), found.describe(), plain_remedy(found.alert))
            for found in firing
        ]
        print_table(("alert", "severity", "rows", "finding", "what to do"), rows)
        if not firing:
            say("No alert is on.")
    if firing:
        raise typer.Exit(ExitCode.FAILED)


def watch_status(engine: "Engine", *, every_s: float) -> None:
    """Show the status until Ctrl-C. While the ledger does not answer, the screen shows the error."""
    import time

    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            while True:
                live.update(render_screen(engine, most_workers=max(console.height - 30, 5)), refresh=True)
                time.sleep(every_s)
        except KeyboardInterrupt:
            return


def render_screen(engine: "Engine", *, most_workers: int) -> "RenderableType":
    """Return what the screen of ``watch_status`` shows now: the status, or the message of a transient error."""
    from rich.text import Text

    from validation.analysis.status.fleet_status import read_status
    from validation.analysis.status.terminal import render_status
    from validation.errors import Transient
    from validation.escape import for_terminal

    try:
        return render_status(read_status(engine), max_workers=most_workers)
    except Transient as error:
        return Text(for_terminal(error), style="bold red")

"""`vfleet status`: where the fleet stands."""

import argparse
from typing import TYPE_CHECKING

from validation.cli import Subparsers

if TYPE_CHECKING:
    from rich.console import RenderableType
    from sqlalchemy import Engine


def add_status_commands(commands: Subparsers) -> None:
    status = commands.add_parser("status", help="how far, how fast, at what cost, and what is wrong")
    shown = status.add_mutually_exclusive_group()
    shown.add_argument(
        "--watch", type=float, nargs="?", const=10.0, metavar="SECONDS", help="keep showing it (default: every 10 s)"
    )
    shown.add_argument("--json", action="store_true", help="print it as JSON, history included")
    status.set_defaults(command=run_status)


def run_status(options: argparse.Namespace) -> None:
    from rich.console import Console

    from validation.analysis.status.fleet_status import read_status
    from validation.services import open_ledger

    engine = open_ledger()
    if options.watch is not None:
        watch(engine, every_s=max(options.watch, 0.5))
        return
    standing = read_status(engine)
    if options.json:
        import json

        from validation.analysis.status.fleet_status import dump_status

        print(json.dumps(dump_status(standing), indent=2, ensure_ascii=False))
        return
    from validation.analysis.status.terminal import show_status

    Console().print(show_status(standing))


def watch(engine: "Engine", *, every_s: float) -> None:
    """Show it until Ctrl-C. A ledger that does not answer is asked again, and its sentence stands there meanwhile."""
    import time

    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        try:
            while True:
                live.update(look(engine, most_workers=max(console.height - 30, 5)), refresh=True)
                time.sleep(every_s)
        except KeyboardInterrupt:
            return


def look(engine: "Engine", *, most_workers: int) -> "RenderableType":
    """What a watcher sees now."""
    from rich.text import Text

    from validation.analysis.status.fleet_status import read_status
    from validation.analysis.status.terminal import show_status
    from validation.errors import Transient

    try:
        return show_status(read_status(engine), max_workers=most_workers)
    except Transient as error:
        return Text(str(error), style="bold red")

"""`vfleet fleet`: order, price, list and remove rented boxes."""

from typing import Annotated, TypeAlias

import typer

from validation.cli import JsonOption

PANEL = "Fleet"

fleet_app = typer.Typer(no_args_is_help=True)

FleetOption: TypeAlias = Annotated[str, typer.Option("--fleet", help="Name of the fleet.")]


def add_commands(app: typer.Typer) -> None:
    app.add_typer(
        fleet_app, name="fleet", rich_help_panel=PANEL, help="Rented boxes: order, plan, status, bans, shut down."
    )


@fleet_app.command()
def up(
    machines: Annotated[int, typer.Option(help="How many GPUs to rent.")],
    budget: Annotated[float, typer.Option(metavar="USD", help="Limit for everything that this fleet ever rents.")],
    max_usd_per_hour: Annotated[float, typer.Option(metavar="USD", help="Limit per hour for all boxes together.")],
    image: Annotated[str, typer.Option(help="The worker image, best named by digest.")],
    max_price: Annotated[float | None, typer.Option(metavar="USD", help="Limit per hour for one box.")] = None,
    gpu: Annotated[list[str] | None, typer.Option(help='A GPU model, such as "RTX 3090". May be repeated.')] = None,
    cuda: Annotated[float | None, typer.Option(help="The CUDA that the image was built for; 13.0 by default.")] = None,
    disk: Annotated[float | None, typer.Option(metavar="GB", help="Disk of a box.")] = None,
    inet_down: Annotated[float | None, typer.Option(metavar="MBIT/S", help="Download rate of a box.")] = None,
    fleet: FleetOption = "main",
) -> None:
    """Order boxes: how many, at what price, and for how much in all. The next tick rents them.

    Example: `vfleet fleet up --machines 2 --budget 5 --max-usd-per-hour 1 --image registry/vfleet:1`
    """
    from validation.fleet import commands

    commands.up(
        commands.FleetRequest(
            fleet=fleet,
            machines=machines,
            budget=budget,
            max_usd_per_hour=max_usd_per_hour,
            image=image,
            max_price=max_price,
            gpu=tuple(gpu or ()),
            cuda=cuda,
            disk=disk,
            inet_down=inet_down,
        )
    )


@fleet_app.command()
def down(
    now: Annotated[
        bool, typer.Option("--now", help="Destroy all boxes at once, and return when the vendor lists none.")
    ] = False,
    fleet: FleetOption = "main",
) -> None:
    """Let every box finish its chunk, and return the box to the vendor.

    Examples: `vfleet fleet down`, `vfleet fleet down --now`
    """
    from validation.fleet import commands

    commands.down(fleet, now=now)


@fleet_app.command()
def plan(
    machines: Annotated[int | None, typer.Option(min=1, help="Price an order of this many GPUs instead.")] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Budget of that order: show how long it lasts.")
    ] = None,
    max_price: Annotated[float | None, typer.Option(metavar="USD", help="Limit per hour for one box.")] = None,
    gpu: Annotated[list[str] | None, typer.Option(help='A GPU model, such as "RTX 3090". May be repeated.')] = None,
    fleet: FleetOption = "main",
    json: JsonOption = False,
) -> None:
    """Show what the next tick would do and what it would cost, or price an order. Changes nothing.

    Examples: `vfleet fleet plan`, `vfleet fleet plan --machines 100 --budget 500`
    """
    from validation.errors import BadInput
    from validation.fleet import commands

    if machines is not None:
        commands.price(machines, budget_usd=budget, max_price=max_price, gpu=tuple(gpu or ()), json=json)
        return
    if budget is not None or max_price is not None or gpu:
        raise BadInput("--budget, --max-price and --gpu price an order: give --machines too")
    commands.plan(fleet, json=json)


@fleet_app.command()
def status(fleet: FleetOption = "main", json: JsonOption = False) -> None:
    """Show every box and what was spent, from the ledger alone."""
    from validation.fleet import commands

    commands.status(fleet, json=json)


@fleet_app.command()
def bans(json: JsonOption = False) -> None:
    """Show the bans: the vendor's machines and hosts that the fleet does not rent for a time."""
    from validation.fleet import commands

    commands.bans(json=json)


@fleet_app.command()
def unban(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="`machine` or `host`.")],
    vendor_id: Annotated[str, typer.Argument(metavar="ID", help="The number in `vfleet fleet bans`.")],
) -> None:
    """Lift the ban of a machine or a host.

    Example: `vfleet fleet unban machine 12345`
    """
    from validation.fleet import commands

    commands.unban(kind, vendor_id)

"""`vfleet fleet`: the rented boxes."""

import argparse
from dataclasses import replace

from validation.cli import Subparsers


def add_fleet_commands(subparsers: Subparsers) -> None:
    """Add `fleet` with its commands. What they need is imported when one runs."""
    fleet = subparsers.add_parser("fleet", help="rented boxes: plan, up, down, status, bans, unban")
    commands = fleet.add_subparsers(title="commands", required=True)

    up = commands.add_parser("up", help="order boxes: how many, at what price, and for how much in all")
    up.add_argument("--machines", type=int, required=True, help="number of boxes, each with one GPU")
    up.add_argument("--budget", type=float, required=True, help="dollars for all that this fleet ever rents")
    up.add_argument("--max-usd-per-hour", type=float, required=True, help="dollars per hour for all boxes together")
    up.add_argument("--max-price", type=float, help="dollars per hour for one box")
    up.add_argument("--image", required=True, help="the worker image, best by digest")
    up.add_argument("--gpu", action="append", help='a GPU, such as "RTX 3090"; may be repeated')
    up.add_argument("--cuda", type=float, help="the CUDA that the image was built for (default: 13.0)")
    up.add_argument("--disk", type=float, help="GB of disk")
    up.add_argument("--inet-down", type=float, help="Mb/s down")
    up.set_defaults(command=run_up)

    down = commands.add_parser("down", help="let every box finish its chunk, then destroy it")
    down.add_argument("--now", action="store_true", help="destroy all boxes at once, and return when none is left")
    down.set_defaults(command=run_down)

    plan = commands.add_parser("plan", help="show what the next tick would do, and what it costs; change nothing")
    plan.set_defaults(command=run_plan)
    status = commands.add_parser("status", help="show every box, and the money")
    status.set_defaults(command=run_status)
    for parser in (up, down, plan, status):
        parser.add_argument("--fleet", default="main", help="which fleet (default: main)")

    bans = commands.add_parser("bans", help="show the machines and hosts that are not rented for a while")
    bans.set_defaults(command=run_bans)
    unban = commands.add_parser("unban", help="lift a ban: machine 123, or host 45")
    unban.add_argument("kind", metavar="KIND", help="machine or host")
    unban.add_argument("vendor_id", metavar="ID", help="the vendor's number")
    unban.set_defaults(command=run_unban)


def run_up(options: argparse.Namespace) -> None:
    from validation.fleet import commands
    from validation.vast.offer_filter import OfferFilter

    given = {
        "gpu_names": tuple(options.gpu) if options.gpu else None,
        "min_cuda": options.cuda,
        "disk_gb": options.disk,
        "inet_down_mbps": options.inet_down,
        "max_usd_per_hour": options.max_price,
    }
    commands.up(
        options.fleet,
        boxes=options.machines,
        image=options.image,
        max_usd=options.budget,
        max_usd_per_hour=options.max_usd_per_hour,
        offer_filter=replace(OfferFilter(), **{name: value for name, value in given.items() if value is not None}),
    )


def run_down(options: argparse.Namespace) -> None:
    from validation.fleet import commands

    commands.down(options.fleet, now=options.now)


def run_plan(options: argparse.Namespace) -> None:
    from validation.fleet import commands

    commands.plan(options.fleet)


def run_status(options: argparse.Namespace) -> None:
    from validation.fleet import commands

    commands.status(options.fleet)


def run_bans(_options: argparse.Namespace) -> None:
    from validation.fleet import commands

    commands.bans()


def run_unban(options: argparse.Namespace) -> None:
    from validation.fleet import commands

    commands.unban(options.kind, options.vendor_id)

"""`vfleet bootstrap`: bring a Prefect server to what this project says."""

import argparse
import os

from validation.cli import Subparsers
from validation.errors import BadInput


def add_bootstrap_command(commands: Subparsers) -> None:
    bootstrap = commands.add_parser(
        "bootstrap",
        aliases=["deploy"],
        help="make pools, deployments, automations and block types on Prefect's server; again changes nothing",
    )
    bootstrap.add_argument("--home", default="/app", help="where the project lies on the workers (default: /app)")
    bootstrap.add_argument("--image", metavar="NAME:TAG", help="build and push the boxes' image first (needs Docker)")
    bootstrap.set_defaults(command=run_bootstrap)


def run_bootstrap(options: argparse.Namespace) -> None:
    from validation.doctor.prefect_access import hide_password
    from validation.local.prefect_client import PrefectClient

    if options.image and ":" not in options.image.rpartition("/")[2]:
        raise BadInput(f"--image is {options.image!r}: name its tag, as registry/name:tag")
    PrefectClient(os.environ, home=options.home).bootstrap(image=options.image)
    print(f"deployed to {hide_password(os.environ['PREFECT_API_URL'])}; the workers run the code in {options.home}")

"""`vfleet bootstrap | doctor`: set up the Prefect server, and check a machine."""

import os
from dataclasses import asdict
from typing import Annotated

import typer

from validation.cli import JsonOption
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import say, say_json

PANEL = "Set up and check"


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(doctor)
    app.command(rich_help_panel=PANEL)(bootstrap)


def doctor(
    gpu: Annotated[bool, typer.Option("--gpu", help="Check a box: GPU, driver and models as well.")] = False,
    json: JsonOption = False,
) -> int:
    """Check everything that this machine needs, and say what to do about a problem. Exit 1 if a check has failed.

    Examples: `vfleet doctor` on the control machine, `vfleet doctor --gpu` on a box
    """
    from validation.doctor.runner import CONTROL_CHECKS, GPU_CHECKS, run_checks
    from validation.settings import load_settings

    failed = 0
    for result in run_checks(load_settings(), GPU_CHECKS if gpu else CONTROL_CHECKS):
        failed += result.status == "failed"
        if json:
            say_json(asdict(result))
        else:
            say(f"{result.status:8}{result.check:20}{result.message}")
    return ExitCode.FAILED if failed else ExitCode.OK


def bootstrap(
    home: Annotated[str, typer.Option(help="Folder of the project on the workers.")] = "/app",
    image: Annotated[
        str | None,
        typer.Option(metavar="NAME:TAG", help="Also build and push the worker image (Docker, buildx)."),
    ] = None,
) -> None:
    """Create or update work pools, deployments, automations and block types on the Prefect server.

    Running it again changes nothing.

    Example: `vfleet bootstrap --home /app`
    """
    from validation.doctor.prefect_server import hide_password
    from validation.local.prefect_client import PrefectClient

    if image and ":" not in image.rpartition("/")[2]:
        raise BadInput(f"--image is {image!r}: name its tag, as registry/name:tag")
    PrefectClient(os.environ, home=home).bootstrap(image=image)
    say(f"deployed to {hide_password(os.environ['PREFECT_API_URL'])}; the workers run the code in {home}")

"""`vfleet init | bootstrap | doctor`: write the environment files, set up the Prefect server, and check a machine.

`init` asks for the settings that have no default, and checks the answers of each step at once.
"""

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validation.cli import JsonOption
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import print_json, say

PANEL = "Set up and check"


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(init)
    app.command(rich_help_panel=PANEL)(doctor)
    app.command(rich_help_panel=PANEL)(bootstrap)


def doctor(
    gpu: Annotated[bool, typer.Option("--gpu", help="Check a box: GPU, driver and models as well.")] = False,
    json: JsonOption = False,
) -> int:
    """Check everything that this machine needs, and print what to do about a problem. Exit 1 if a check has failed.

    Examples: `vfleet doctor` on the control machine, `vfleet doctor --gpu` on a box
    """
    from validation.doctor.runner import CONTROL_CHECKS, GPU_CHECKS, run_checks
    from validation.settings import load_settings

    failed = 0
    for result in run_checks(load_settings(), GPU_CHECKS if gpu else CONTROL_CHECKS):
        failed += result.status == "failed"
        if json:
            print_json(asdict(result))
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


if TYPE_CHECKING:
    from validation.doctor.check import Check

CONTROL_FILE, BOX_FILE = "control.env", "box.env"
BOX_ALIKE = ("R2_ENDPOINT_URL", "VFLEET_SOURCE_URL", "VFLEET_RESULTS_URL")
"""Settings with the same value on a box and on the control machine."""
BOX_PREFIX = "BOX_"
"""Prefix of the variables of box.env in control.env, which holds all answers."""

Answers = dict[str, str]
"""The values of environment variables: those that `init` asked for, and all others of an existing control.env."""


@dataclass(frozen=True, slots=True)
class Question:
    """One environment variable that `init` asks for."""

    variable: str
    text: str
    default: str = ""
    is_secret: bool = False
    applies: Callable[[Mapping[str, str]], bool] = field(default=lambda _: True)
    """Returns whether the question applies, given the earlier answers."""


@dataclass(frozen=True, slots=True)
class Step:
    """Questions whose answers are checked together."""

    title: str
    questions: tuple[Question, ...]
    checks: tuple[str, ...] = ()
    """Names of the doctor's check functions that run after the questions."""


def is_cloud(answers: Mapping[str, str]) -> bool:
    """Return whether the Prefect API is that of Prefect Cloud."""
    return "api.prefect.cloud" in answers.get("PREFECT_API_URL", "")


def is_own_server(answers: Mapping[str, str]) -> bool:
    return not is_cloud(answers)


STEPS = (
    Step(
        "The ledger (docs/deploy.md, section 3)",
        (Question("DATABASE_URL", "Address of the database, for the login `control`", is_secret=True),),
        ("check_database", "check_tls"),
    ),
    Step(
        "The object store",
        (
            Question("R2_ENDPOINT_URL", "Address of the store (R2: https://ACCOUNT.r2.cloudflarestorage.com)"),
            Question("R2_ACCESS_KEY_ID", "Access key id"),
            Question("R2_SECRET_ACCESS_KEY", "Secret access key", is_secret=True),
            Question("VFLEET_SOURCE_URL", "Bucket of the tars", "s3://transcribed"),
            Question("VFLEET_RESULTS_URL", "Bucket of the results", "s3://validation-results"),
        ),
        ("check_source", "check_results"),
    ),
    Step(
        "Credentials of boxes (empty: boxes get keys of your choice)",
        (
            Question("CLOUDFLARE_ACCOUNT_ID", "Cloudflare's account id"),
            Question("CLOUDFLARE_API_TOKEN", "Cloudflare's API token", is_secret=True),
        ),
        ("check_cloudflare",),
    ),
    Step(
        "Prefect (section 5)",
        (
            Question("PREFECT_API_URL", "Address of Prefect's API", "http://127.0.0.1:4200/api"),
            Question("PREFECT_API_KEY", "API key of the workspace", is_secret=True, applies=is_cloud),
            Question("PREFECT_API_AUTH_STRING", "Password of the server", is_secret=True, applies=is_own_server),
            Question(
                "VFLEET_GATEWAY_TOKENS", "Token file of the gateway", "/var/lib/vfleet/boxes", applies=is_own_server
            ),
        ),
        ("check_prefect",),
    ),
    Step(
        "Vast.ai (empty: only machines of your own)",
        (Question("VAST_API_KEY", "API key", is_secret=True),),
        ("check_vast",),
    ),
    Step(
        "Boxes (section 7)",
        (
            Question("BOX_DATABASE_URL", "Address of the database, for the login `box`", is_secret=True),
            Question("BOX_PREFECT_API_URL", "Address of Prefect's API, as boxes reach it"),
            Question("BOX_PREFECT_API_KEY", "API key of the service account", is_secret=True, applies=is_cloud),
            Question("BOX_VFLEET_SUITE", "Suite of models", "indic"),
        ),
        ("check_box_login",),
    ),
)
"""The questions of `init`, in order."""


def init(
    folder: Annotated[Path, typer.Option(file_okay=False, help="Where the two files are written.")] = Path(
        "/etc/vfleet"
    ),
) -> None:
    """Ask for the settings that have no default, check each answer, and write control.env and box.env.

    Run it again to change an answer: the values of an existing file are the defaults, and Enter keeps them.

    Example: `vfleet init --folder /etc/vfleet`
    """
    from validation.files import write_atomically
    from validation.output import say

    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}: create it (install -d -m 700 {folder}), or name another")
    answers = read_env_file(folder / CONTROL_FILE)
    for step in STEPS:
        ask(step, answers)
    control = answers | {BOX_PREFIX + name: answers[name] for name in BOX_ALIKE if answers.get(name)}
    write_atomically(folder / CONTROL_FILE, render_control(control), mode=0o600)
    write_atomically(folder / BOX_FILE, render_box(control), mode=0o600)
    say(f"{folder / CONTROL_FILE} and {folder / BOX_FILE} are written; only their owner can read them")
    say("new values hold after: systemctl restart vfleet-control (it runs the control flows)")
    say(f"a machine of your own: vfleet box add NAME prints the lines that {BOX_FILE} still needs")


def ask(step: Step, answers: Answers) -> None:
    """Ask the questions of a step until its checks pass, or the operator keeps the answers in spite of a failure."""
    from validation.doctor.runner import CONTROL_CHECKS
    from validation.output import say

    known = {check.__name__: check for check in CONTROL_CHECKS}
    say("")
    say(step.title)
    while True:
        for question in step.questions:
            if question.applies(answers):
                ask_one(question, answers)
        wrong = run_and_print_checks([known[name] for name in step.checks], answers)
        if not wrong or typer.confirm("Keep these answers all the same?", default=False):
            return


def ask_one(question: Question, answers: Answers) -> None:
    """Ask for one value. An empty answer keeps the present or default value; without one, the variable is left out."""
    known = answers.get(question.variable, question.default)
    shown = f"{question.text} ({question.variable})"
    if question.is_secret:
        kept = " [unchanged]" if known else ""
        given = typer.prompt(shown + kept, default="", show_default=False, hide_input=True) or known
    else:
        given = typer.prompt(shown, default=known, show_default=bool(known))
    if given.strip():
        answers[question.variable] = given.strip()
    else:
        answers.pop(question.variable, None)


def run_and_print_checks(checks: "list[Check]", answers: Mapping[str, str]) -> bool:
    """Set the answers in ``os.environ``, run checks, and print each result that is not ``skipped``.

    Return whether a check failed.
    """
    from validation.doctor.check import run_check
    from validation.output import say
    from validation.settings import load_settings

    os.environ.update(answers)  # this process ends with the command
    results = [run_check(load_settings(), check) for check in checks]
    for result in results:
        if result.status != "skipped":
            say(f"  {result.status}: {result.check}: {result.message}")
    return any(result.status == "failed" for result in results)


def read_env_file(path: Path) -> Answers:
    """Read the assignments of an environment file. A missing file gives an empty mapping."""
    if not path.exists():
        return {}
    words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def render_control(answers: Mapping[str, str]) -> str:
    """Return the text of control.env: one assignment per line, quoted so that shell and systemd read the same value."""
    return "".join(f"{name}={quote(value)}\n" for name, value in answers.items())


def render_box(answers: Mapping[str, str]) -> str:
    """Return the text of box.env for a box outside the fleet, without quotes, because Docker reads lines literally."""
    values = {name.removeprefix(BOX_PREFIX): value for name, value in answers.items() if name.startswith(BOX_PREFIX)}
    return "".join(f"{name}={value}\n" for name, value in values.items())


def quote(value: str) -> str:
    """Return a value, in single quotes if a shell would change it.

    Raises:
        BadInput: the value contains a quote or a line break, which shell and systemd read differently.
    """
    if "'" in value or "\n" in value:
        raise BadInput("a value contains a single quote or a line break, which shell and systemd read differently")
    return value if value == shlex.quote(value) else f"'{value}'"

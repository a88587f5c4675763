"""`vfleet inspect`: print the layout, segments and faults that the fleet reads from one tar."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from io import RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validation.cli import JsonOption
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import print_json, print_table, say

if TYPE_CHECKING:
    from validation.corpus.inspect import InspectedSegment, Inspection

PANEL = "Queue"


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(inspect)


def inspect(
    tar: Annotated[str, typer.Argument(help="A file, an object key of the source store, or - for standard input.")],
    as_json: JsonOption = False,
) -> ExitCode:
    """Show what the fleet reads from a tar: its layout, segments, faults, or why it is refused.

    Needs no ledger, model or server. Exits with 1 if the tar is refused. Example: `vfleet inspect videos/abc.tar`
    """
    from validation.corpus.inspect import inspect_tar

    with _open(tar) as (stream, name):
        found = inspect_tar(stream, name)
    if as_json:
        print_json(asdict(found))
    else:
        _print_inspection(found)
    return ExitCode.FAILED if found.refusal else ExitCode.OK


@contextmanager
def _open(tar: str) -> Iterator[tuple[RawIOBase, str]]:
    """Open a tar: standard input for ``-``, else the file with this path, else the object with this key.

    Yields the stream and a name for messages.
    """
    if tar == "-":
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as standard_input:
            yield standard_input, "standard input"
        return
    if _is_file(Path(tar)):
        with Path(tar).open("rb", buffering=0) as file:
            yield file, Path(tar).name
        return
    from validation.settings import load_settings
    from validation.storage.store import open_store, stream_object

    settings = load_settings()
    try:
        source = open_store(settings.source_url, settings)
    except BadInput as error:
        raise BadInput(f"{tar} is no file, and the source store cannot be opened for a key: {error}") from error
    with stream_object(source, tar) as stream:
        yield stream, tar


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # for example, the name is too long for the file system
        return False


def _print_inspection(found: "Inspection") -> None:
    if found.refusal:
        say(f"refused: {found.refusal}")
    else:
        say(f"{found.key}: layout {found.layout}")
        say(f"because {found.layout_reason}")
        print_table(
            ("segment", "member", "video time", "decoded", "language", "text", "fault"),
            map(_describe_segment, found.segments),
        )
        faults = sum(segment.fault is not None for segment in found.segments)
        say(f"{len(found.segments)} segments, {faults} with a fault")
    if found.ignored_files:
        say("ignored files: " + ", ".join(f"{count} {suffix}" for suffix, count in found.ignored_files.items()))


def _describe_segment(segment: "InspectedSegment") -> tuple[str, ...]:
    """Return the cells of a segment's row in the table."""
    member = segment.member or ""
    if segment.slice_s:
        member += f" [{segment.slice_s[0]:.2f}-{segment.slice_s[1]:.2f} s]"
    times = "" if segment.start_s is None else f"{segment.start_s:.2f}"
    if segment.end_s is not None:
        times += f"-{segment.end_s:.2f} s"
    decoded = "" if segment.decoded_s is None else f"{segment.decoded_s:.2f} s"
    if segment.length_difference_s:
        decoded += f" ({segment.length_difference_s:+.2f} s)"
    return segment.name, member, times, decoded, segment.language or "", segment.text, segment.fault or ""

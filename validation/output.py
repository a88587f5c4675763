"""Print the output of commands: sentences, tables that fit the terminal, and strict JSON."""

import logging
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from validation.escape import for_log, for_terminal, to_json

DEFAULT_COLUMNS = 80
"""Width of the output in characters, if there is no terminal and the variable COLUMNS is not set."""
_GAP = "  "


class LineFormatter(logging.Formatter):
    """Formats each log record as one line, and escapes control characters, so that no message can forge a line.

    A traceback is appended as several lines.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        return for_log(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in logging
        return "\n".join(map(for_log, super().formatException(ei).split("\n")))


def configure_logging(line_format: str) -> None:
    """Log to stderr from level INFO, with control characters escaped (``LineFormatter``).

    Programs in which Prefect does not set up logging call this: bootstrap, inference server and gateway proxy.

    Args:
        line_format: the format of a line, as for ``logging.Formatter``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(line_format))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def say(sentence: object) -> None:
    """Print one sentence as one line on standard output, with control characters as escapes."""
    print(for_terminal(sentence), flush=True)


def say_error(sentence: object) -> None:
    """Print one sentence as one line on standard error, with control characters as escapes."""
    print(for_terminal(sentence), file=sys.stderr, flush=True)


def print_json(value: object) -> None:
    """Print a value as one line of strict JSON on standard output. NaN and infinities become null."""
    print(to_json(value), flush=True)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table that fits the width of the terminal. Print nothing if there are no rows.

    No cell is cut. If the columns do not fit beside each other, the values of the widest columns are printed on lines
    of their own below their row. The first column always stays in the row. Columns of numbers are aligned right.

    Args:
        headers: the name of each column.
        rows: one value per column and row.
    """
    table = [list(row) for row in rows]
    if not table:
        return
    cells = [[_format(value) for value in row] for row in table]
    widths = [max(len(header), *(len(row[place]) for row in cells)) for place, header in enumerate(headers)]
    is_number = [all(isinstance(row[place], int | float | None) for row in table) for place in range(len(headers))]
    beside, below = _split_columns(widths, shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns)

    def line(row: Sequence[str]) -> str:
        parts = [row[at].rjust(widths[at]) if is_number[at] else row[at].ljust(widths[at]) for at in beside]
        return _GAP.join(parts).rstrip()

    print(line(headers))
    for row in cells:
        print(line(row))
        for place in below:
            if row[place]:
                print(_wrap(f"{headers[place]}: {row[place]}"), flush=True)


def _split_columns(widths: Sequence[int], columns: int) -> tuple[list[int], list[int]]:
    """Return the indexes of the columns that fit beside each other, then the indexes of the others, both ascending.

    Args:
        widths: the width of each table column, in characters.
        columns: the width of the terminal, in characters.
    """
    beside, below = list(range(len(widths))), []
    while len(beside) > 1 and sum(widths[at] for at in beside) + len(_GAP) * (len(beside) - 1) > columns:
        widest = max(beside[1:], key=lambda at: widths[at])
        beside.remove(widest)
        below.append(widest)
    return beside, sorted(below)


def _wrap(text: str) -> str:
    """Break a text into indented lines that fit the terminal."""
    columns = shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns
    return textwrap.fill(
        text,
        width=max(columns, 20),
        initial_indent="    ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _format(value: object) -> str:
    """Return the text of a table cell; empty for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case datetime():
            return f"{value:%d %b %H:%M}"
        case _:
            return for_terminal(value)

r"""Escape untrusted text before it is displayed or stored: file names, labels, transcripts, error messages, ids.

There is one function per output format. Each function replaces unsafe characters (control characters, terminal escape
sequences, direction overrides, lone surrogates) by a visible backslash escape such as ``\x1b``. Most functions also
limit the length. Letters of all scripts stay unchanged, and so do the joiners of Indic scripts (U+200C, U+200D).
"""

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import date
from decimal import Decimal
from typing import Any

MAX_SENTENCE_CHARS = 2_000
"""Maximum length of a sentence that is stored or shown. A longer sentence loses its middle."""

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 control characters: terminal escapes, line ends, NUL
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the writing direction
    "\u2028\u2029"  # line and paragraph separators
    "\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotation
    "\ud800-\udfff"  # lone surrogates, which UTF-8 cannot encode
    "\U000e0000-\U000e007f"  # invisible tag characters
    "]"
)
_MARKDOWN = re.compile(
    r"[\\`*{}\[\]<>&#|~@$]|(?<![^\W_])_|_(?![^\W_])|^\s*[-+=]|^\d+[.)]|:(?=//)|(?<=www)\.", re.IGNORECASE
)
"""Characters with a meaning in Markdown, in HTML or in automatic links (GitHub Flavored Markdown). An underscore within
a word, as in most ids, has no meaning and does not match."""
_UNSAFE_IN_JSON = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "", 1))
"""The unsafe characters except C0: ``json.dumps`` escapes C0, and the line ends of an indented document must stay."""


def plain_text(text: object, *, max_chars: int | None = MAX_SENTENCE_CHARS) -> str:
    """Return text as one line of limited length, with unsafe characters as escapes, to be stored or logged.

    Args:
        text: any object; the function converts it by ``str``.
        max_chars: maximum length of the result in characters; None for no limit.
    """
    return shorten(_UNSAFE.sub(_escape_character, str(text)), max_chars)


def shorten(text: str, max_chars: int | None) -> str:
    """Replace the middle of a text that is longer than ``max_chars`` by a note with the number of cut characters."""
    if max_chars is None or len(text) <= max_chars:
        return text
    note = f" ... ({len(text) - max_chars:,} characters left out) ... "
    room = max(max_chars - len(note), 2)
    return text[: room - room // 3] + note + text[len(text) - room // 3 :]


def for_terminal(text: object, *, max_chars: int | None = None) -> str:
    """Return text as one line for a terminal. No character of it can control the cursor, the title or the clipboard."""
    return plain_text(text, max_chars=max_chars)


def for_log(text: object) -> str:
    """Return text as one line for a log, of at most ``MAX_SENTENCE_CHARS`` characters."""
    return plain_text(text)


def for_ledger(text: object) -> str:
    """Return text for a text column of the ledger, without NUL and lone surrogates, which Postgres rejects."""
    return plain_text(text)


def for_html(text: object, *, max_chars: int | None = None) -> str:
    """Return text for the content of an HTML element or for a quoted HTML attribute."""
    return html.escape(plain_text(text, max_chars=max_chars), quote=True)


def for_markdown(text: object, *, max_chars: int | None = MAX_SENTENCE_CHARS) -> str:
    """Return text for a Markdown page that may hold HTML. The text cannot start a tag, link, image, cell or emphasis.

    The function replaces characters of Markdown syntax by numeric entities. Markdown displays an entity as its
    character and never parses it as syntax. A URL does not become a link, because the colon before ``//`` and the dot
    after ``www`` are replaced.
    """
    return _MARKDOWN.sub(
        lambda match: "".join(f"&#{ord(char)};" for char in match[0]), plain_text(text, max_chars=max_chars).strip()
    )


def to_json(value: object, *, indent: int | None = None) -> str:
    r"""Return a value as strict JSON (RFC 8259) that is also safe to print on a terminal.

    NaN and infinities become null, times become ISO 8601 strings, decimals become numbers, and dataclasses become
    objects. A value of any other type without a JSON equivalent becomes its ``str``. Unsafe characters inside strings
    become ``\u`` escapes.
    """
    document = json.dumps(_to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _UNSAFE_IN_JSON.sub(lambda match: json.dumps(match[0])[1:-1], document)


def _escape_character(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _to_plain(value: Any) -> Any:
    """Convert a value to the types of JSON, as ``to_json`` describes."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | Decimal):
        return _to_number(value)
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    return [_to_plain(item) for item in value] if isinstance(value, list | tuple | set | frozenset) else str(value)


def _to_number(value: float | Decimal) -> float | None:
    if not math.isfinite(value):
        return None
    return int(value) if isinstance(value, Decimal) and value == value.to_integral_value() else float(value)

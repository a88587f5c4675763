r"""Escapes for text that comes from outside: file names, labels, transcripts, error messages, ids.

One function per place of display. Each replaces characters that change how a display works (control characters,
terminal escape sequences, direction overrides, lone surrogates) by a visible backslash escape such as ``\x1b``, so
that a reader sees that they were there, and limits the length. Letters of all scripts pass unchanged, the joiners of
Indic scripts (U+200C, U+200D) included.
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
"""Longest sentence that is stored or shown. Longer ones keep their beginning and their end."""

_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0 and C1 control characters: terminal escapes, line ends, NUL
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks and overrides of the writing direction
    "\u2028\u2029"  # line and paragraph separators
    "\ufeff\ufff9-\ufffb"  # byte order mark, interlinear annotation
    "\ud800-\udfff"  # lone surrogates: no encoding of UTF-8 exists
    "\U000e0000-\U000e007f"  # invisible tag characters
    "]"
)
_MARKDOWN = re.compile(
    r"[\\`*{}\[\]<>&#|~@$]|(?<![^\W_])_|_(?![^\W_])|^\s*[-+=]|^\d+[.)]|:(?=//)|(?<=www)\.", re.IGNORECASE
)
"""Syntax of Markdown, of its HTML and of its automatic links (GitHub Flavored Markdown). Underscores within a word, as
in most ids, are none."""
_UNSAFE_IN_JSON = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "", 1))
"""``json.dumps`` escapes C0 by itself, and an indented document has line ends of its own."""


def plain_text(text: object, *, max_chars: int | None = MAX_SENTENCE_CHARS) -> str:
    """Make text safe to store and to log: one line, without control characters, of limited length.

    Args:
        text: anything; its ``str`` is taken.
        max_chars: longest result; None for no limit.
    """
    return shorten(_UNSAFE.sub(_name_character, str(text)), max_chars)


def shorten(text: str, max_chars: int | None) -> str:
    """Cut the middle of a text that is longer than ``max_chars`` and say how many characters are missing."""
    if max_chars is None or len(text) <= max_chars:
        return text
    note = f" ... ({len(text) - max_chars:,} characters left out) ... "
    room = max(max_chars - len(note), 2)
    return text[: room - room // 3] + note + text[len(text) - room // 3 :]


def for_terminal(text: object, *, max_chars: int | None = None) -> str:
    """Text for one line of a terminal. Nothing in it moves the cursor, sets a title or reaches the clipboard."""
    return plain_text(text, max_chars=max_chars)


def for_log(text: object) -> str:
    """Text for one line of a log."""
    return plain_text(text)


def for_ledger(text: object) -> str:
    """A sentence for a column of the ledger. Postgres refuses NUL, and UTF-8 has no lone surrogates."""
    return plain_text(text)


def for_html(text: object, *, max_chars: int | None = None) -> str:
    """Text for an HTML element or a quoted attribute."""
    return html.escape(plain_text(text, max_chars=max_chars), quote=True)


def for_markdown(text: object, *, max_chars: int | None = MAX_SENTENCE_CHARS) -> str:
    """Text for Markdown that may hold HTML: no tag, link, image, table cell or emphasis can begin in it.

    Punctuation becomes numeric entities, which Markdown shows as the character and never reads as syntax. An address
    does not become a link, because its colon and dots are entities.
    """
    return _MARKDOWN.sub(
        lambda match: "".join(f"&#{ord(char)};" for char in match[0]), plain_text(text, max_chars=max_chars).strip()
    )


def to_json(value: object, *, indent: int | None = None) -> str:
    r"""Strict JSON (RFC 8259) that is also safe on a terminal.

    NaN and infinities are null, times are ISO 8601, decimals are numbers, dataclasses are objects; what JSON has no
    type for is its ``str``. Control characters and lone surrogates inside strings are ``\u`` escapes.
    """
    document = json.dumps(_to_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _UNSAFE_IN_JSON.sub(lambda match: json.dumps(match[0])[1:-1], document)


def _name_character(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def _to_plain(value: Any) -> Any:
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

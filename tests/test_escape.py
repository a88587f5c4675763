"""Text from outside is shown, and does nothing else, wherever it is displayed."""

import html
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.support.hostile_words import HOSTILE_WORDS, unsafe_characters
from validation.escape import (
    MAX_SENTENCE_CHARS,
    for_html,
    for_ledger,
    for_log,
    for_markdown,
    for_terminal,
    plain_text,
    to_json,
)

WORDS = pytest.mark.parametrize("word", HOSTILE_WORDS.values(), ids=HOSTILE_WORDS)
ANY_TEXT = st.text(st.characters())


class Tags(HTMLParser):
    """Collects the tags, attributes and text of a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_data(self, data):
        self.text += data


@WORDS
@pytest.mark.parametrize("escape", [for_terminal, for_log, for_ledger, plain_text])
def test_escaped_line_has_no_unsafe_character(escape, word):
    """One line, encodable in UTF-8, without NUL; stored and logged sentences have a limited length."""
    shown = escape(word)
    assert unsafe_characters(shown, allowed="") == set()
    shown.encode()
    if escape is not for_terminal:
        assert len(shown) <= MAX_SENTENCE_CHARS


@WORDS
def test_html_shows_the_word_as_text(word):
    """No tag and no attribute begins in the word, neither in an element nor in a quoted attribute."""
    parsed = Tags(f'<p title="{for_html(word)}">{for_html(word)}</p>')
    assert [tag for tag, _ in parsed.tags] == ["p"]
    assert parsed.tags == [("p", [("title", plain_text(word, max_chars=None))])]
    assert parsed.text == plain_text(word, max_chars=None)


@WORDS
@pytest.mark.parametrize("place", ["{}", "said: {}", "| a |\n|---|\n| {} |", "- {}", "**{}**"])
def test_markdown_shows_the_word_as_text(word, place):
    """Rendered with raw HTML, tables and automatic links on, the word adds no element."""
    renderer = MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table")
    plain = Tags(renderer.render(place.format("word"))).tags
    rendered = Tags(renderer.render(place.format(for_markdown(word))))
    assert rendered.tags == plain
    shown = plain_text(word).strip()
    assert shown in rendered.text or html.unescape(shown) == rendered.text.strip()


@WORDS
def test_markdown_has_no_automatic_link(word):
    """GitHub Flavored Markdown links `www.`, `http://` and addresses with `@` in source text."""
    source = for_markdown(word)
    assert "://" not in source
    assert "www." not in source
    assert "@" not in source


@WORDS
def test_json_keeps_the_word_and_is_safe_on_a_terminal(word):
    """Parsing the JSON gives the word, with each lone surrogate as an escape."""
    document = to_json({"error": word})
    assert unsafe_characters(document, allowed="") == set()
    assert json.loads(document) == {"error": word}
    document.encode()


def test_json_is_strict():
    """NaN and infinities are null; times, decimals and tuples have their JSON form."""
    value = {"nan": math.nan, "inf": [math.inf, -math.inf], "at": datetime(2026, 1, 1, tzinfo=UTC),
             "usd": Decimal("1.5"), "n": Decimal(2), "big": Decimal("NaN"), 1: (True, None, 0.1)}  # fmt: skip
    document = to_json(value)
    assert json.loads(document, parse_constant=pytest.fail) == {
        "nan": None, "inf": [None, None], "at": "2026-01-01T00:00:00+00:00", "usd": 1.5, "n": 2, "big": None,
        "1": [True, None, 0.1],
    }  # fmt: skip


@pytest.mark.parametrize("text", ["नमस्ते दुनिया", "क्\u200dष", "ന്\u200dറെ", "日本語", "é ü ß", "a\u200cb"])
def test_letters_of_all_scripts_pass_unchanged(text):
    """Joiners of Indic scripts included."""
    assert for_terminal(text) == text
    assert json.loads(to_json(text)) == text
    assert text in to_json(text)


@given(ANY_TEXT)
def test_escaping_twice_changes_nothing(text):
    """A sentence may pass several places of display."""
    assert for_terminal(for_terminal(text)) == for_terminal(text)


@given(st.text(min_size=MAX_SENTENCE_CHARS, max_size=MAX_SENTENCE_CHARS * 2))
def test_long_text_keeps_its_beginning_and_end(text):
    """The middle is cut out, and the result says how many characters are missing."""
    shown = for_log(text)
    assert len(shown) <= MAX_SENTENCE_CHARS
    whole = plain_text(text, max_chars=None)
    if len(whole) > MAX_SENTENCE_CHARS:
        assert "characters left out" in shown
        assert whole.startswith(shown[:100])
        assert whole.endswith(shown[-100:])


def test_control_characters_are_visible_escapes():
    """An escape is visible, so that a reader sees what was there."""
    assert for_terminal("a\x1b[2Jb\x00c\n") == r"a\x1b[2Jb\x00c\n"

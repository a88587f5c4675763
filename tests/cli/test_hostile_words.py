"""Text from outside changes no display: every word of the list through the commands, JSON and Prefect's artifacts."""

import json
import logging
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from tasks import control, fleet, progress
from tests.support.hostile_words import HOSTILE_WORDS, unsafe_characters
from tests.support.ledger_helpers import claim, execute
from tests.support.status_helpers import rent
from validation.analysis.status.fleet_status import read_status
from validation.analysis.status.format import render_status_page
from validation.cli.main import main
from validation.control.sweep import SweepReport
from validation.fleet.reconcile import TickReport
from validation.ledger.boxes import issue_box_key
from validation.ledger.maintenance import SweptChunk
from validation.output import LineFormatter

WORDS = [word.replace("\x00", "").encode("utf-8", "ignore").decode() for word in HOSTILE_WORDS.values()]
"""As Postgres can hold them: without NUL and lone surrogates. Length is limited by the index of ids."""
COMMANDS = [
    ["status"], ["fleet", "status", "--fleet", "blue"], ["fleet", "bans"], ["box", "credentials"], ["canaries", "list"],
    ["requeue", "--all", "--dry-run"], ["shards", "ls"], ["sweep"], ["audit"],
]  # fmt: skip
HAS_JSON = [words for words in COMMANDS if words != ["requeue", "--all", "--dry-run"]]


@pytest.fixture
def attacked(box):
    """A ledger in which every text that a box, a vendor or the queue can write is hostile, one word per row."""
    for number, word in enumerate(WORDS):
        name = f"{number:02d}{word[:200]}"
        execute(
            box.engine,
            "INSERT INTO video_queue (video_id, status, language, validation_status, validation_error) "
            "VALUES (:id, 'done', :word, 'validation_failed', :word)",
            id=name, word=word[:200],
        )  # fmt: skip
        execute(
            box.engine,
            "INSERT INTO worker_validators (worker_id, status, gpu_type, last_error, current_video_id, "
            "last_heartbeat_at) VALUES (:id, 'online', :word, :word, :word, now())",
            id=name, word=word,
        )  # fmt: skip
    rent(box.engine, hours=1, usd_per_hour=1)
    execute(
        box.engine,
        "UPDATE fleet_instances SET gpu_name = :word, vendor_status = :word, vendor_message = :word, reason = :word",
        word="".join(WORDS)[:5000],
    )
    for number, word in enumerate(WORDS):
        issue_box_key(box.engine, f"{number:02d}{word[:200]}")
        execute(box.engine, "SELECT validation.fleet_ban(:id, :id, :word, 3600)", id=number, word=word)
    return box


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_tables_show_no_unsafe_character(attacked, capsys, words):
    """No cell moves the cursor, sets a title, reaches the clipboard or begins a line of its own."""
    main(words)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) > 1 or words[0] in {"shards", "sweep", "audit", "canaries"}
    for text in (printed.out, printed.err):
        assert unsafe_characters(text) == set()
        text.encode()


@pytest.mark.parametrize("words", HAS_JSON, ids=" ".join)
def test_json_is_strict_and_safe_on_a_terminal(attacked, capsys, words):
    """Every line is JSON without NaN."""
    main([*words, "--json"])
    printed = capsys.readouterr().out
    assert unsafe_characters(printed) == set()
    for line in printed.splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "{}"], ["seed", "{}"], ["requeue", "--", "{}"], ["box", "revoke", "--", "{}"],
        ["select", "--rules", "{}"], ["{}"], ["canaries", "clear", "--", "{}"], ["fleet", "unban", "--", "{}", "1"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_errors_that_quote_an_argument_are_one_safe_line(box, capsys, words):
    """Whatever is typed or pasted."""
    for word in WORDS:
        main([each.format(word[:500]) if each == "{}" else each for each in words])
        printed = capsys.readouterr().err
        assert unsafe_characters(printed) == set(), word
        assert len(printed.strip().splitlines()) <= 1, word


class Tags(HTMLParser):
    """Collects the elements of a document."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)


def tags_of(markdown: str) -> list[str]:
    return Tags(MarkdownIt("gfm-like", {"html": True, "linkify": False}).enable("table").render(markdown)).tags


def test_page_of_prefect_has_no_foreign_element(attacked):
    """The progress page renders as with harmless labels: no script, link, remote image or cell more."""
    status = read_status(attacked.engine)
    tags = tags_of(render_status_page(status))
    for row in status.languages:
        row["language"] = "hi"
    assert tags == tags_of(render_status_page(status))


def test_cells_and_descriptions_of_artifacts_have_no_foreign_element(attacked, monkeypatch):
    """Prefect renders table cells and descriptions as Markdown."""
    published = []
    for module in (control, fleet, progress):
        monkeypatch.setattr(module, "create_table_artifact", lambda rows, **named: published.append((rows, named)))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda _, **named: published.append(([], named)))
    status = read_status(attacked.engine)
    progress.publish_workers(status)
    progress.publish_language_bars(status)
    chunk = claim_any(attacked)
    swept = [SweptChunk(chunk.chunk_id, word, None, word, 1, 0) for word in WORDS]
    control.publish_sweep(SweepReport(swept=swept, stale_workers=WORDS, orphans=WORDS, failures=WORDS), WORDS)
    told = {"by_state": {}, "usd_per_hour": 0.0, "spent_usd": 0.0, "credit_usd": None, "done": {}}
    fleet.publish_tick("blue", TickReport(wanted=1, notes=tuple(WORDS), listing_complete=True, listed=0, **told))
    texts = [str(cell) for rows, _ in published for row in rows for cell in row.values()]
    texts += [named["description"] for _, named in published]
    assert len(texts) > 8 * len(WORDS)
    for text in texts:
        assert set(tags_of(text)) <= {"p"}, text
        assert unsafe_characters(text, allowed="") == set()


def claim_any(box):
    box.add_videos("sound", tar=False)
    return claim(box.engine)


def test_log_has_one_safe_line_per_record():
    """Also where an exception quotes the word."""
    form = LineFormatter("%(levelname)s %(message)s")
    for word in HOSTILE_WORDS.values():
        line = form.format(logging.LogRecord("x", logging.INFO, "", 0, "refused: %s", (word,), None))
        assert unsafe_characters(line, allowed="") == set()
        error = ValueError(word)
        failed = (ValueError, error, error.__traceback__)
        text = form.format(logging.LogRecord("x", logging.INFO, "", 0, "failed", (), failed))
        assert unsafe_characters(text) == set()

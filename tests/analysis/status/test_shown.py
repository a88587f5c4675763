"""The page and the terminal show the same status, for an empty ledger too."""

import json
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from tests.support.ledger_helpers import execute
from tests.support.status_helpers import queue, rent, work
from validation.analysis.status.fleet_status import dump_status, read_status
from validation.analysis.status.format import describe_silence, draw_bar, headline, render_status_page, worker_cells
from validation.analysis.status.terminal import draw_spark, render_status
from validation.cli.status import render_screen
from validation.ledger.engine import open_engine
from validation.ledger.fleet import record_tick, set_target


def on_screen(status, width=160, **options) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as captured:
        console.print(render_status(status, **options))
    return captured.get()


def test_empty_ledger_has_a_headline(ledger):
    """No share is computed without videos: the headline says that the queue is empty."""
    status = read_status(ledger)
    assert headline(status) == "The queue is empty: no transcribed video is known."
    assert headline(status) in render_status_page(status)
    assert headline(status) in on_screen(status)
    json.dumps(dump_status(status))


def test_headline_says_what_is_missing_before_the_first_commit(ledger, seed):
    """Workers without commits, then videos without workers."""
    queue(ledger, hi=3)
    assert "the time left is unknown" in headline(read_status(ledger))
    execute(ledger, "DELETE FROM worker_validators")
    assert "No worker has ever registered" in headline(read_status(ledger))
    assert "![" not in render_status_page(read_status(ledger))


def test_page_and_terminal_show_every_part_of_a_working_fleet(ledger):
    """Progress, time left, verdicts, cost and workers are on the page and in the terminal."""
    queue(ledger, hi=150, ta=30)
    work(ledger, minutes=20)
    rent(ledger, hours=1.0, usd_per_hour=0.5)
    execute(ledger, "UPDATE worker_validators SET last_error = E'the store is away\\nat line 2'")
    status = read_status(ledger)
    page, screen = render_status_page(status), on_screen(status)
    for shown in (page, screen):
        assert "of 180 videos done, empty in" in shown
        assert "60.0 % accepted, 25.0 % review, 15.0 % rejected" in shown
        assert "$0.50 so far, $0.50 per hour" in shown
        assert re.search(r"\bta\b", shown)
    assert "the store is away" in screen
    assert "at line 2" not in screen
    assert page.count("data:image/svg+xml;base64,") == 4
    assert worker_cells(status.workers[0])["GPU"] == "RTX 3090"


def test_no_end_is_promised_that_no_worker_works_towards(ledger):
    """With commits in the last hour and no worker online, headline, facts and plot name no time."""
    queue(ledger, hi=150)
    work(ledger, minutes=20)
    execute(ledger, "UPDATE worker_validators SET status = 'offline'")
    status = read_status(ledger)
    assert headline(status).endswith("No worker is online, so no end is in sight.")
    assert "empty in" not in render_status_page(status) + on_screen(status)
    assert status.usd_at_end is None


def test_status_says_why_fewer_boxes_run_than_ordered(ledger):
    """The last tick's sentence stands beside the number of boxes."""
    queue(ledger, hi=150)
    work(ledger, minutes=2)
    set_target(ledger, "blue", machines=4, max_usd_per_hour=9, max_usd=99, order={})
    assert "0 of 4 ordered boxes: no tick has run yet" in on_screen(read_status(ledger))
    record_tick(ledger, "blue", ["VAST_API_KEY is not set"])
    assert "0 of 4 ordered boxes: VAST_API_KEY is not set" in on_screen(read_status(ledger))


def test_page_has_one_headline_and_no_empty_header(ledger):
    """The facts are a list; counts agree with their nouns."""
    queue(ledger, hi=150)
    work(ledger, minutes=20)
    status = read_status(ledger)
    page = render_status_page(status)
    assert [line for line in page.splitlines() if line.startswith("# ")] == [f"# {headline(status)}"]
    assert "| | |" not in page
    assert describe_silence(status) == "1 worker, none silent."


def test_rates_agree_with_each_other(ledger):
    """Each video of this ledger has four segments, so the rate of segments is four times that of videos."""
    queue(ledger, hi=150)
    work(ledger, minutes=20)
    eta = read_status(ledger).eta
    assert eta["segments_per_s"] == pytest.approx(4 * eta["videos_per_s"])


def test_terminal_prints_language_labels_verbatim(ledger):
    """A language label that looks like rich markup is printed as text."""
    queue(ledger, **{"[red]hi[/]": 1, "[/]": 1})
    shown = on_screen(read_status(ledger))
    assert "[red]hi[/]" in shown
    assert "\n[/] " in shown


def test_workers_with_problems_are_listed_first(ledger):
    """If there are more workers than lines, silent workers are shown and the others are counted."""
    queue(ledger, hi=1)
    execute(
        ledger,
        "INSERT INTO worker_validators (worker_id, last_heartbeat_at) "
        "SELECT 'w' || n, now() - make_interval(mins => n) FROM generate_series(0, 4) n",
    )
    status = read_status(ledger)
    assert [row["worker_id"] for row in status.workers] == ["w2", "w3", "w4", "w1", "ann", "w0"]
    assert "and 4 more" in on_screen(status, max_workers=2)


def test_last_error_is_legible_at_80_columns(ledger):
    """A worker's error has a line of its own, with the worker's name and whole words."""
    queue(ledger, hi=1)
    error = "the results store refuses this key: renew R2_ACCESS_KEY_ID"
    execute(ledger, f"UPDATE worker_validators SET last_error = '{error}'")
    assert f"ann: {error}" in on_screen(read_status(ledger), width=80)


def test_watch_shows_the_error_of_an_unreachable_ledger():
    """An unreachable ledger is one sentence on the screen, without the password, and watching goes on."""
    engine = open_engine("postgresql://user:secret@127.0.0.1:9/x")
    assert "127.0.0.1:9/x is unreachable" in str(render_screen(engine, most_workers=5))
    assert "secret" not in str(render_screen(engine, most_workers=5))


@pytest.mark.parametrize(("share", "full"), [(0.0, 0), (0.04, 0), (0.5, 10), (0.999, 19), (1.0, 20)])
def test_bar_is_full_only_at_a_share_of_one(share, full):
    assert draw_bar(share).count("█") == full
    assert len(draw_bar(share)) == 20


def test_spark_line_shows_the_latest_values_scaled_to_the_highest():
    assert draw_spark([0, 1, 2, 4]) == "▁▃▅█"
    assert len(draw_spark(range(100))) == 60
    assert draw_spark([0.0]) == "▁"


def test_status_json_holds_the_status_and_its_history(ledger):
    """`vfleet status --json` prints the whole status, history included."""
    queue(ledger, hi=20)
    work(ledger, minutes=2)
    url = ledger.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "validation.cli", "status", "--json"]
    done = subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed["fleet"]["validated"] == 10
    assert printed["eta"]["videos_left"] == 10
    assert sum(step["videos"] for step in printed["history"]) == 10
    assert printed["cost"]["spent_usd"] is None

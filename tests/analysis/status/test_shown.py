"""What is read from the ledger is shown alike on the page and in the terminal, and an empty fleet says that it is."""

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
from validation.analysis.status.format import headline, worker_cells
from validation.analysis.status.markdown import draw_bar, write_page
from validation.analysis.status.terminal import draw_spark, show_status
from validation.cli.status import refresh
from validation.ledger.engine import open_engine


def on_screen(standing, **options) -> str:
    console = Console(width=160, no_color=True)
    with console.capture() as captured:
        console.print(show_status(standing, **options))
    return captured.get()


def test_an_empty_ledger_says_so(ledger):
    """Nothing is divided by nothing."""
    standing = read_status(ledger)
    assert headline(standing) == "The queue is empty: no transcribed video is known."
    assert headline(standing) in write_page(standing)
    assert headline(standing) in on_screen(standing)
    json.dumps(dump_status(standing))


def test_a_fleet_that_never_worked_says_so(ledger, seed):
    """Videos without workers, then workers without commits."""
    queue(ledger, hi=3)
    assert "nobody knows how long" in headline(read_status(ledger))
    execute(ledger, "DELETE FROM worker_validators")
    assert "No worker has ever registered" in headline(read_status(ledger))
    assert "![" not in write_page(read_status(ledger))


def test_a_working_fleet_is_shown_whole(ledger):
    """Progress, end, verdicts, cost and workers, on the page and on the screen."""
    queue(ledger, hi=150, ta=30)
    work(ledger, minutes=20)
    rent(ledger, hours=1.0, usd_per_hour=0.5)
    execute(ledger, "UPDATE worker_validators SET last_error = E'the store is away\\nat line 2'")
    standing = read_status(ledger)
    page, screen = write_page(standing), on_screen(standing)
    for shown in (page, screen):
        assert "of 180 videos done, empty in" in shown
        assert "60.0 % accepted, 25.0 % review, 15.0 % rejected" in shown
        assert "$0.50 so far, $0.50 an hour" in shown
        assert re.search(r"\bta\b", shown)
    assert "the store is away" in screen
    assert "at line 2" not in screen
    assert page.count("data:image/svg+xml;base64,") == 4
    assert worker_cells(standing.workers[0])["GPU"] == "RTX 3090"


def test_a_label_is_shown_as_it_is_spelled(ledger):
    """What looks like markup is somebody's name of a language."""
    queue(ledger, **{"[red]hi[/]": 1, "[/]": 1})
    shown = on_screen(read_status(ledger))
    assert "[red]hi[/]" in shown
    assert "\n[/] " in shown


def test_trouble_comes_first(ledger):
    """With more workers than lines, those that fell silent are the ones that are seen."""
    queue(ledger, hi=1)
    execute(
        ledger,
        "INSERT INTO worker_validators (worker_id, last_heartbeat_at) "
        "SELECT 'w' || n, now() - make_interval(mins => n) FROM generate_series(0, 4) n",
    )
    standing = read_status(ledger)
    assert [row["worker_id"] for row in standing.workers] == ["w2", "w3", "w4", "w1", "ann", "w0"]
    assert "and 4 more" in on_screen(standing, most_workers=2)


def test_a_watcher_sees_why_the_ledger_does_not_answer():
    """An outage is a sentence on the screen, not the end of watching."""
    engine = open_engine("postgresql://user:secret@127.0.0.1:9/x")
    assert "127.0.0.1:9/x is unreachable" in str(refresh(engine, most_workers=5))
    assert "secret" not in str(refresh(engine, most_workers=5))


@pytest.mark.parametrize(("share", "full"), [(0.0, 0), (0.04, 0), (0.5, 10), (0.999, 19), (1.0, 20)])
def test_a_bar_is_full_when_all_is_done(share, full):
    assert draw_bar(share).count("█") == full
    assert len(draw_bar(share)) == 20


def test_a_spark_shows_the_latest_and_scales_to_the_highest():
    assert draw_spark([0, 1, 2, 4]) == "▁▃▅█"
    assert len(draw_spark(range(100))) == 60
    assert draw_spark([0.0]) == "▁"


def test_vfleet_status_prints_what_machines_read(ledger):
    """`--json` has everything that is shown, history included."""
    queue(ledger, hi=20)
    work(ledger, minutes=2)
    url = ledger.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "validation.cli", "status", "--json"]
    done = subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["fleet"]["validated"] == 10
    assert told["eta"]["videos_left"] == 10
    assert sum(step["videos"] for step in told["history"]) == 10
    assert told["cost"]["spent_usd"] is None

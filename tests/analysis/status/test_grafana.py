"""The Grafana dashboard's queries match the ledger."""

import json
from itertools import combinations
from pathlib import Path

import pytest

from tests.support.ledger_helpers import claim, execute
from tests.support.status_helpers import queue, rent, work
from validation.domain import WorkerProfile
from validation.ledger.workers import register_worker

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = json.loads((ROOT / "deploy/grafana/validation-fleet.json").read_text())
DISTRUST = """
    WITH canary AS (
        INSERT INTO validation.canaries (video_id, suite, models, answers) VALUES ('c', 's', '{}', '[{}]')
    )
    INSERT INTO validation.canary_evaluations (video_id, chunk_id, outcome, finding)
    VALUES ('c', :chunk, 'wrong', 'it lies')
"""
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}


@pytest.fixture
def answers(ledger):
    """Every panel's query and its result, on a working fleet."""
    queue(ledger, hi=60, ta=20)
    work(ledger, minutes=5)
    rent(ledger, hours=0.5, usd_per_hour=0.3)
    return ask(ledger)


def ask(ledger):
    """Run every query as the dashboard's read-only role."""
    with ledger.connect() as connection:
        connection.exec_driver_sql("SET ROLE validation_reader")
        found = {}
        for title, panel in PANELS.items():
            (target,) = panel["targets"]
            found[title] = [dict(row) for row in connection.exec_driver_sql(target["rawSql"]).mappings()]
        connection.exec_driver_sql("RESET ROLE")
        return found


def test_every_query_runs_as_reader_and_returns_rows(answers):
    """On a working fleet no panel is empty, and the read-only role suffices."""
    assert [title for title, rows in answers.items() if not rows] == []
    assert answers["Videos left"] == [{"videos_left": 55}]
    assert float(answers["Done"][0]["done"]) == pytest.approx(25 / 80)
    assert {row["language"] for row in answers["Done by language"]} == {"hi", "ta"}
    assert answers["Workers"][-1].keys() >= {"worker_id", "liveness", "last_error"}


def test_worker_panels_show_quarantined_workers(ledger):
    """Both worker panels show quarantined workers; the table lists them first with the reason."""
    queue(ledger, hi=10)
    register_worker(ledger, WorkerProfile("zoe", config={"instance": "zoe-1"}))
    chunk = claim(ledger, worker_id="zoe")
    execute(ledger, DISTRUST, chunk=chunk.chunk_id)
    answers = ask(ledger)
    assert answers["Workers by liveness"][0]["quarantined"] == 1
    assert [(row["worker_id"], row["quarantine_reason"]) for row in answers["Workers"]] == [
        ("zoe", "c: it lies"),
        ("ann", None),
    ]


def test_time_series_have_a_time_column_and_numbers(answers):
    """A time series panel has a column `time` and only numbers beside it."""
    for title, panel in PANELS.items():
        if panel["targets"][0]["format"] == "time_series":
            assert panel["type"] == "timeseries"
            times = [row["time"] for row in answers[title]]
            assert times == sorted(times)


def test_overrides_name_existing_columns(answers):
    """An override for a missing column would silently have no effect."""
    for title, panel in PANELS.items():
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"]["options"] in answers[title][0], title


def test_panels_do_not_overlap():
    """Panel ids are unique, and panels do not overlap within the 24 columns."""
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(PANELS) == len(DASHBOARD["panels"])
    places = [
        {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
        for g in (panel["gridPos"] for panel in DASHBOARD["panels"])
    ]
    assert all(one.isdisjoint(other) for one, other in combinations(places, 2))
    assert max(x for place in places for x, _ in place) < 24

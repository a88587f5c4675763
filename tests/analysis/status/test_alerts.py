"""The alerts are one list, and each consumer has it whole."""

import json

import pytest
import typer
import yaml

from tests.support.ledger_helpers import claim, execute
from validation.analysis.status.alerts import (
    GRAFANA,
    PAGE,
    find_firing,
    load_alerts,
    plain_remedy,
    render_grafana_rules,
    replace_alerts_section,
)
from validation.cli import status


def test_page_and_grafana_have_the_alerts_of_the_list():
    """`make docs-alerts` would change nothing."""
    assert replace_alerts_section(PAGE.read_text()) == PAGE.read_text()
    assert render_grafana_rules() == GRAFANA.read_text()


def test_grafana_rules_count_the_rows_of_their_alert(ledger, seed):
    """As the reader role, each rule's query returns the number of rows that the alert returns."""
    seed(5)
    firing = {found.alert.name: len(found.rows) for found in find_firing(ledger)}
    rules = yaml.safe_load(GRAFANA.read_text())["groups"][0]["rules"]
    with ledger.connect() as connection:
        connection.exec_driver_sql("SET ROLE validation_reader")
        counts = {
            rule["title"]: connection.exec_driver_sql(rule["data"][0]["model"]["rawSql"]).scalar() for rule in rules
        }
        connection.exec_driver_sql("RESET ROLE")
    assert counts == {alert.name: firing.get(alert.name, 0) for alert in load_alerts()}


def test_no_due_alert_evaluates_none(ledger, seed):
    """An empty collection of alerts is not taken for all alerts."""
    seed(30)
    claim(ledger, size=2)
    execute(ledger, "UPDATE worker_validators SET status = 'offline'")
    assert find_firing(ledger)
    assert find_firing(ledger, []) == []


def test_critical_alerts_come_first_with_what_is_wrong(ledger, seed):
    """A finding names its rows, up to three; a remedy has no links."""
    seed(30)
    claim(ledger, size=2)
    execute(ledger, "UPDATE worker_validators SET status = 'offline'")
    execute(
        ledger,
        "UPDATE video_queue SET validation_status = 'validation_failed', validation_error = 'e'"
        " WHERE validation_status = 'pending'"
        " AND video_id > (SELECT min(video_id) FROM video_queue WHERE validation_status = 'pending')",
    )
    firing = find_firing(ledger)
    assert [found.alert.name for found in firing] == ["no-worker-online", "many-videos-fail"]
    assert "pending 1, workers_online 0" in firing[0].describe()
    assert plain_remedy(firing[1].alert) == "See Many videos fail."


@pytest.mark.parametrize("is_on", [True, False])
def test_the_command_exits_with_1_if_an_alert_is_on(ledger, seed, monkeypatch, capsys, is_on):
    """And prints one line of strict JSON."""
    seed(3)
    if is_on:
        execute(ledger, "UPDATE worker_validators SET status = 'offline'")
    monkeypatch.setattr("validation.services.open_ledger", lambda: ledger)
    if is_on:
        with pytest.raises(typer.Exit) as ended:
            status.alerts(json=True)
        assert ended.value.exit_code == 1
    else:
        status.alerts(json=True)
    assert bool(json.loads(capsys.readouterr().out)) is is_on

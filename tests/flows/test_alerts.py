"""What is new or over is told once, through Prefect."""

import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.variables import Variable

from flows.alerts import check_alerts
from tasks.alerts import VARIABLE, read_last_firing, select_due
from tests.support.ledger_helpers import claim, execute
from tests.support.scripted_http_server import serve
from validation.local.prefect_client import PROJECT, PrefectClient
from validation.local.process import poll_until

NOTIFY = next(
    wanted
    for wanted in yaml.safe_load((PROJECT / "automations.yaml").read_text())["automations"]
    if wanted["name"] == "notify-alerts"
)


@pytest.fixture(autouse=True)
def forget(prefect):
    """No alert is on before a test, and none is remembered after it."""
    yield
    Variable.unset(VARIABLE)


def test_alert_is_told_when_it_is_new_and_when_it_is_over(prefect, flow_box):
    """A second evaluation tells nothing; once its cause is gone, it is over."""
    flow_box.add_videos("a", tar=False)
    claim(flow_box.engine, size=1)
    execute(flow_box.engine, "UPDATE validation_chunks SET lease_expires_at = now() - interval '4 min'")
    assert check_alerts() == "1 alerts are on, 1 of them new; 0 are over."
    assert check_alerts() == "1 alerts are on, 0 of them new; 0 are over."
    assert list(read_last_firing()) == ["sweep-missing"]
    execute(flow_box.engine, "UPDATE validation_chunks SET lease_expires_at = now() + interval '1 min'")
    assert check_alerts() == "0 alerts are on, 0 of them new; 1 are over."
    assert read_last_firing() == {}


def test_dear_alerts_are_evaluated_once_per_hour():
    """The audit of the ledger is not part of every control run."""
    full_hour = datetime(2026, 1, 1, 5, tzinfo=UTC)
    every_time = {alert.name for alert in select_due([full_hour + timedelta(minutes=2)], 120)}
    assert {alert.name for alert in select_due([full_hour], 120)} - every_time == {"ledger-inconsistent"}


def test_automation_is_made_once_its_block_exists(prefect_server, prefect):
    """Without the block there is no recipient, and bootstrap makes the rest."""
    client = PrefectClient(prefect_server.client_environment())
    assert client._fill_in_blocks(NOTIFY) is None
    assert client._fill_in_blocks({"actions": [{"type": "cancel"}]}) == {"actions": [{"type": "cancel"}]}


def test_webhook_receives_what_is_new(prefect_server, prefect, flow_box):
    """From the event of the control flow through the automation and its block to an address on loopback."""
    received = []

    def answer(request):
        received.append(json.loads(request.rfile.read(int(request.headers["Content-Length"]))))
        request.send_response(204)
        request.end_headers()

    client = PrefectClient(prefect_server.client_environment())
    with serve(answer) as webhook:
        CustomWebhookNotificationBlock(
            name="alerts", url=webhook.url, method="PUT", json_data={"text": "{{subject}}\n{{body}}"}
        ).save("vfleet-alerts", overwrite=True)
        try:
            client._automate(client._fill_in_blocks(NOTIFY))
            flow_box.add_videos("a", tar=False)
            execute(flow_box.engine, "UPDATE worker_validators SET status = 'offline'")
            told = check_alerts()
            assert "1 of them new" in told
            assert poll_until(lambda: received, within_s=60)
        finally:
            for automation in client._call("POST", "/automations/filter", limit=200):
                if automation["name"] == "notify-alerts":
                    client._call("DELETE", f"/automations/{automation['id']}")
            CustomWebhookNotificationBlock.delete("vfleet-alerts")
    assert "critical: no-worker-online" in received[0]["text"]
    assert "vfleet fleet status" in received[0]["text"]

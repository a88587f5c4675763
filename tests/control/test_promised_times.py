"""How long the loss of a box goes unnoticed, added up from the deployed settings."""

from pathlib import Path

import yaml

from validation.ledger.workers import HEARTBEAT_TIMEOUT_S
from validation.settings import Settings
from validation.worker.chunk.lease import JITTER

CLAIMABLE_S = 120
"""Within two minutes the videos of a lost box can be claimed: README.md."""
TRUTH_S = 240
"""Within four minutes Prefect and the table of workers say of a lost box what is true: docs/operate.md."""
START_S = 10
"""From a control run's time to its first statement, on a busy machine."""


def read_period_s() -> int:
    deployed = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
    (operate,) = [item for item in deployed["deployments"] if item["name"] == "operate-fleet"]
    return min(schedule["interval"] for schedule in operate["schedules"])


def default(setting: str) -> int:
    return Settings.model_fields[setting].default


def test_lost_box_is_noticed_within_the_promised_times():
    """A claim takes it back as soon as its lease ends; its worker is stale once the next control run has started."""
    assert default("lease_s") <= CLAIMABLE_S
    assert HEARTBEAT_TIMEOUT_S + read_period_s() + START_S <= TRUTH_S


def test_one_lost_heartbeat_has_no_effect():
    """Two heartbeats fit before a worker is stale or a lease expires, and one in half a lease."""
    latest_s = default("heartbeat_s") * (1 + JITTER)
    assert 2 * latest_s < min(HEARTBEAT_TIMEOUT_S, default("lease_s"))
    assert latest_s < default("lease_s") / 2

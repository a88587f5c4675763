"""How long the loss of a box goes unnoticed, added up from the deployed settings."""

from pathlib import Path

import yaml

from validation.ledger.workers import HEARTBEAT_TIMEOUT_S
from validation.settings import Settings
from validation.worker.chunk.lease import JITTER

TRUTH_S = 120
"""Within two minutes Prefect and the ledger say of a lost box what is true: docs/operate.md."""
START_S = 10
"""From a control run's time to its first statement, on a busy machine."""


def read_sweep_period_s() -> int:
    deployed = yaml.safe_load((Path(__file__).parents[2] / "prefect.yaml").read_text())
    (sweep,) = [item for item in deployed["deployments"] if item["name"] == "sweep-stale-claims"]
    return min(schedule["interval"] for schedule in sweep["schedules"])


def default(setting: str) -> int:
    return Settings.model_fields[setting].default


def test_lost_box_is_noticed_within_two_minutes():
    """The chunk of a lost box is claimable, and its worker stale, once the next sweep has run."""
    for unnoticed_s in (default("lease_s"), HEARTBEAT_TIMEOUT_S):
        assert unnoticed_s + read_sweep_period_s() + START_S <= TRUTH_S


def test_one_lost_heartbeat_has_no_effect():
    """Two heartbeats fit before a worker is stale or a lease expires, and one in half a lease."""
    latest_s = default("heartbeat_s") * (1 + JITTER)
    assert 2 * latest_s < min(HEARTBEAT_TIMEOUT_S, default("lease_s"))
    assert latest_s < default("lease_s") / 2

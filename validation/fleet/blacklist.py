"""Why machines leave, and for how long they are not rented again."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

Reason: TypeAlias = Literal[
    # the machine's own fault
    "never_booted", "pull_failed", "pull_limited", "runtime_failed", "stopped", "lost", "vanished",
    "heartbeat_timeout", "slow", "no_progress", "gpu_mismatch", "over_price", "quarantined",
    # nobody's, or ours
    "image_refused", "account_event", "surplus", "dismissed", "budget", "drained", "refused", "created_but_failed",
    "never_rented", "unreachable",
]  # fmt: skip

HOUR_S = 3600
DAY_S = 24 * HOUR_S

BAN_S: Mapping[Reason, int] = {
    "never_booted": 3 * DAY_S,  # too slow a line, or a broken daemon: seldom better the same day
    "pull_failed": DAY_S,  # disk full or line cut: its owner may see to it
    "pull_limited": 6 * HOUR_S,  # a registry counts the pulls of an address, by the hour
    "runtime_failed": 14 * DAY_S,  # a driver too old stays old
    "stopped": 6 * HOUR_S,  # its owner wanted it back
    "lost": DAY_S,
    "vanished": DAY_S,
    "heartbeat_timeout": DAY_S,
    "slow": 14 * DAY_S,
    "no_progress": DAY_S,
    "gpu_mismatch": 30 * DAY_S,  # another card than the one that we pay for
    "over_price": 7 * DAY_S,
    "quarantined": 30 * DAY_S,  # memory or a card that errs, or a hand that does: neither heals by itself
}
"""A reason that is not here is not the machine's fault."""

"""The failures that the fake vendor injects, as one configuration object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

RaceMode: TypeAlias = Literal["refuse", "refuse_410", "accept_both"]

WEIGHTS: Mapping[str, float] = {
    "ok": 60, "stuck_loading": 8, "pull_fatal": 5, "oci_error": 5, "exits_on_start": 4, "zombie_running": 6,
    "slow": 5, "dies_midway": 4, "vanishes": 2, "host_reclaim": 1,
}  # fmt: skip
"""Percentage of rentals with each lifecycle, from field reports of 2026."""


@dataclass(frozen=True, slots=True)
class FailureMix:
    """The failures of the vendor and their frequencies. By default, nothing fails."""

    lifecycles: Mapping[str, float] = field(default_factory=lambda: {"ok": 1.0})
    """The weight of each lifecycle of a rental."""
    transport: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Per endpoint, the probability per request of each kind of connection failure."""
    strict: bool = False
    """Refuse requests that come faster than the rate limits."""
    race_mode: RaceMode = "refuse"
    """The response to a second create request for one offer. It is 400, as at the vendor, or 410, as in the vendor's
    documentation. With ``accept_both``, a second create within three seconds rents a machine whose container cannot
    bind its port."""
    leaky_share: float = 0.0
    """A search returns this share of the free offers that break exactly one of its bounds."""
    outbids_per_hour: float = 0.0
    """How often per hour an interruptible rental is outbid. Half of the outbid rentals start again by themselves."""
    takings_per_hour: float = 0.0
    """How often per hour another account rents a free offer. The offer returns after some hours, under another id."""
    auth_status: Literal[404, 401] = 404
    """The status for a wrong API key: 404, as at the vendor, or 401, as in the vendor's documentation."""
    spend_limit_usd_per_hour: float = float("inf")
    """The vendor refuses to rent more while the rentals cost more than this, in dollars per hour."""


STANDARD = FailureMix(
    lifecycles=WEIGHTS,
    transport={
        "create": {"commit_then_drop": 0.04, "commit_then_504": 0.03, "reject_then_502": 0.03, "slow": 0.01,
                   "html_502": 0.01, "refuse_politely": 0.02, "truncated": 0.01, "commit_then_refuse": 0.01},
        "destroy": {"commit_then_drop": 0.04, "commit_then_504": 0.03, "reject_then_502": 0.03, "slow": 0.01,
                    "refuse_politely": 0.02},
        "list": {"html_502": 0.02, "truncated": 0.02, "wrong_total": 0.03, "error_500": 0.02, "slow": 0.005},
        "search": {"html_502": 0.02, "error_500": 0.01},
        "account": {"html_502": 0.02},
    },
    strict=True,
    race_mode="accept_both",
    leaky_share=0.02,
    outbids_per_hour=0.05,
    takings_per_hour=0.02,
)  # fmt: skip
"""The usual failures of the vendor: every reported kind of failure, with its usual frequency."""

"""Everything that fails at the vendor's, as one object."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

RaceMode: TypeAlias = Literal["refuse", "refuse_410", "accept_both"]

WEIGHTS: Mapping[str, float] = {
    "ok": 60, "stuck_loading": 8, "pull_fatal": 5, "oci_error": 5, "exits_on_start": 4, "zombie_running": 6,
    "slow": 5, "dies_midway": 4, "vanishes": 2, "host_reclaim": 1,
}  # fmt: skip
"""Shares of the lifecycles of rentals, in field reports of 2026."""


@dataclass(frozen=True, slots=True)
class FailureMix:
    """What fails, and how often. The defaults: nothing."""

    lifecycles: Mapping[str, float] = field(default_factory=lambda: {"ok": 1.0})
    """Lifecycles of rentals, by weight."""
    transport: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """FailingConnection of the connection by endpoint, each with its chance a request."""
    strict: bool = False
    """Refuse requests that come faster than the rate limits."""
    race_mode: RaceMode = "refuse"
    """The response to a second create for one offer: the vendor's 400, its documented 410, or, within three seconds, a
    second rental whose container cannot bind its port."""
    leaky_share: float = 0.0
    """Of the offers that break exactly one bound of a search, the share that is returned anyway."""
    outbids_per_hour: float = 0.0
    """How often an interruptible rental is outbid. Half of them start again by themselves later."""
    takings_per_hour: float = 0.0
    """How often a free offer is rented by another account. It returns after some hours, under another id."""
    auth_status: Literal[404, 401] = 404
    """The status for a wrong key: the vendor's own, or the one that its documentation names."""
    spend_limit_usd_per_hour: float = float("inf")
    """Dollars per hour that the account may cost; new accounts have a limit."""


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
"""The vendor on an ordinary day, with every failure that was reported of it."""

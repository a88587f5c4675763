"""The input of a plan: the operator's order, the ledger's boxes and spending, and one listing of the vendor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import ceil

from sqlalchemy import Engine

from validation.fleet.launch_spec import LaunchSpec
from validation.fleet.policy import ReconcilerPolicy
from validation.ledger.fleet import Ban, FleetBudget, RentedInstance, read_bans, read_budget, read_rented_instances
from validation.vast.listings import Instance, Listing, Offer


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The caps of a fleet and its spending. ``usd_per_hour`` counts every box that is not known to be gone."""

    max_usd_per_hour: float
    max_usd: float
    usd_per_hour: float
    spent_usd: float
    credit_usd: float | None = None
    """The account's credit; None if the credit could not be read."""

    @property
    def left_usd(self) -> float:
        """Return the dollars that may still be spent: what is left of the cap, at most the account's credit."""
        left = self.max_usd - self.spent_usd
        return left if self.credit_usd is None else min(left, self.credit_usd)

    @property
    def runway_h(self) -> float:
        """Return the hours until the money ends at the present cost per hour; infinite if that cost is zero."""
        return max(0.0, self.left_usd) / self.usd_per_hour if self.usd_per_hour > 0 else float("inf")

    def rejection_reason(self, usd_per_hour: float, usd_once: float, *, hours: float) -> str | None:
        """Return why one more box would be too expensive; None if the caps allow it and the money lasts for ``hours``.

        Args:
            usd_per_hour: dollars per hour of the box.
            usd_once: dollars that are due once for the box.
            hours: hours for which the money must pay for the fleet with this box.
        """
        rate = self.usd_per_hour + usd_per_hour
        if rate > self.max_usd_per_hour:
            return (
                f"with one more box the fleet would cost ${rate:.2f} per hour, above its cap of "
                f"${self.max_usd_per_hour:.2f}"
            )
        if rate * hours + usd_once > self.left_usd:
            return f"${max(0.0, self.left_usd):.2f} are left, which would not pay for {hours:.0f} h with one more box"
        return None


@dataclass(frozen=True, slots=True)
class DesiredFleet:
    """The operator's order, and the amount of work that is left."""

    boxes: int
    """Number of ordered boxes."""
    chunks_left: int
    """Number of open chunks and of chunks that the pending videos make. More boxes than chunks would be idle."""
    max_usd_per_box: float
    """The most that one box may cost, in dollars per hour."""
    max_per_host: int = 3
    """Maximum number of the fleet's boxes on machines of one host."""
    abandon: bool = False
    """Whether all boxes are destroyed without draining."""

    @property
    def keep_up_to(self) -> int:
        """Return the number of boxes to keep; boxes above this number are drained or destroyed."""
        return 0 if self.abandon else min(self.boxes, self.chunks_left)

    def explain_fewer(self) -> str | None:
        """Return why fewer boxes are kept than ordered; None if all are kept, or if the fleet is abandoned."""
        if self.abandon or self.keep_up_to >= self.boxes:
            return None
        if not self.keep_up_to:
            return f"no box is needed: no video waits, and {self.boxes} are ordered"
        verb = "is" if self.keep_up_to == 1 else "are"
        return f"{self.keep_up_to} of {self.boxes} ordered boxes {verb} enough for the chunks left ({self.chunks_left})"

    @property
    def rent_up_to(self) -> int:
        """Return up to how many boxes new boxes are rented: the ordered number, at most half of the chunks left.

        Half, because a new box takes minutes to start: near the end of a queue the other boxes would probably finish
        the chunks before. Boxes are kept up to ``keep_up_to``, which is at least as large. So a queue that grows and
        shrinks by one chunk does not change the number of boxes.
        """
        return 0 if self.abandon else min(self.boxes, ceil(self.chunks_left / 2))


@dataclass(frozen=True, slots=True)
class FleetSnapshot:
    """The complete input of ``make_plan``."""

    desired: DesiredFleet
    boxes: Sequence[RentedInstance]
    """Every box that may bill, and those that left within the last half hour."""
    listing: Listing
    label_prefix: str
    budget: BudgetState
    now: datetime
    launch_spec: LaunchSpec
    bans: Sequence[Ban] = ()
    offers: Sequence[Offer] | None = None
    """Offers that meet the filter, best value first; None before the market was searched."""
    policy: ReconcilerPolicy = field(default_factory=ReconcilerPolicy)

    def match_instances(self) -> Mapping[str, Instance]:
        """Return the listed instance of each box, by label. A box without an instance id is matched by its label."""
        ours = self.listing.of_fleet(self.label_prefix)
        by_id = {(instance.label, instance.id): instance for instance in ours}
        first = {instance.label: instance for instance in sorted(ours, key=lambda i: i.id, reverse=True)}
        matched = {
            box.label: first.get(box.label) if box.instance_id is None else by_id.get((box.label, box.instance_id))
            for box in self.boxes
            if box.state != "gone"
        }
        return {label: instance for label, instance in matched.items() if instance is not None}


def read_snapshot(
    engine: Engine, fleet: str, *, listing: Listing, credit_usd: float | None, policy: ReconcilerPolicy
) -> FleetSnapshot:
    """Read a snapshot from the ledger. ``listing`` was taken before, so the ledger has a row for each listed label.

    Raises:
        FleetUnknown: no fleet of this name was ever ordered.
    """
    row = read_budget(engine, fleet)
    launch_spec = LaunchSpec.from_json(row.order_json)
    return FleetSnapshot(
        desired=_read_desired(row, launch_spec),
        boxes=read_rented_instances(engine, fleet),
        listing=listing,
        label_prefix=row.label_prefix,
        budget=BudgetState(row.max_usd_per_hour, row.max_usd, row.usd_per_hour, row.spent_usd, credit_usd),
        now=row.now,
        launch_spec=launch_spec,
        bans=read_bans(engine),
        policy=policy,
    )


def _read_desired(row: FleetBudget, launch_spec: LaunchSpec) -> DesiredFleet:
    return DesiredFleet(
        boxes=row.machines,
        chunks_left=ceil(row.videos_waiting / launch_spec.chunk_videos) + row.chunks_open,
        max_usd_per_box=launch_spec.offer_filter.max_usd_per_hour,
        max_per_host=launch_spec.offer_filter.max_per_host,
        abandon=row.abandoned,
    )

"""Two strategies that keep boxes running: this project's reconciler, and a simple script."""

from collections.abc import Mapping
from typing import Protocol

from simulation.market.world import CHUNK_VIDEOS, World
from validation.domain import Seconds
from validation.errors import FleetError
from validation.fleet.launch_spec import LaunchSpec, build_create_request
from validation.fleet.reconcile import ReconcileContext, TickReport, reconcile
from validation.ledger.fleet import scale_to_zero, set_target
from validation.vast.errors import OfferGone
from validation.vast.listings import Instance
from validation.vast.offer_filter import OfferFilter

FLEET = "soak"
TICK_S: Seconds = 120.0
ORDER = LaunchSpec("ghcr.io/o/worker:1", OfferFilter(), CHUNK_VIDEOS)
ENVIRONMENT: Mapping[str, str] = {"DATABASE_URL": "postgresql://box@ledger/fleet"}


class Strategy(Protocol):
    """A strategy that keeps boxes running. It acts once per tick."""

    name: str

    def tick(self) -> None:
        """Run one tick. Its duration depends on the vendor's rate limits."""

    def scale_down(self) -> bool:
        """Run one tick of scaling to zero. Return true when the strategy believes that no instance is left."""


class FleetStrategy:
    """The strategy of this project: its reconciler, with the ledger and caps."""

    name = "this fleet"

    def __init__(self, world: World, *, machines: int, usd_per_hour: float, usd: float) -> None:
        self._context = ReconcileContext(world.ledger, world.client, FLEET, lambda: ENVIRONMENT)
        self.reports: list[TickReport] = []
        self._scaled_down = False
        set_target(
            world.ledger, FLEET, machines=machines, max_usd_per_hour=usd_per_hour, max_usd=usd, order=ORDER.to_json()
        )

    def tick(self) -> None:
        if report := reconcile(self._context):
            self.reports.append(report)

    def scale_down(self) -> bool:
        if not self._scaled_down:
            scale_to_zero(self._context.engine, FLEET)
            self._scaled_down = True
        self.tick()
        return self.reports[-1].is_empty


class CheapestStrategy:
    """The strategy of a simple script: it rents the cheapest offers that match the filter, and replaces dead instances.

    The script is better than a first attempt. It keeps the vendor's rate limits, never repeats a create request, waits
    for a complete listing, and destroys dead instances as long as they are listed. Its weaknesses are those of a first
    attempt: it assumes that an instance listed as running works, and it destroys each instance only once at the end.
    """

    name = "100 cheapest, replace what dies"

    def __init__(self, world: World, *, machines: int) -> None:
        self._client, self._machines = world.client, machines
        self.name = f"{machines} cheapest, replace what dies"

    def tick(self) -> None:
        listing = self._client.list_instances()
        if not listing.complete:
            return
        for instance in filter(is_dead, listing.instances):
            self._destroy(instance)
        living = {instance.label for instance in listing.instances if not is_dead(instance)}
        self._rent([name for n in range(self._machines) if (name := f"val-{n + 1}") not in living])

    def scale_down(self) -> bool:
        for instance in self._client.list_instances().instances:
            self._destroy(instance)
        return True

    def _rent(self, names: list[str]) -> None:
        try:
            offers = list(self._client.search(CHEAPEST)) if names else []
        except FleetError:
            return
        while names and offers:
            offer = offers.pop(0)
            order = build_create_request(ORDER, offer, label=names[0], worker_id=names[0], environment=ENVIRONMENT)
            try:
                self._client.create(offer.id, order)
            except OfferGone:
                continue
            except FleetError:  # the offer may have been rented; the next listing shows that
                pass
            names.pop(0)

    def _destroy(self, instance: Instance) -> None:
        try:
            self._client.destroy(instance.id)
        except FleetError:
            return


CHEAPEST: Mapping[str, object] = {
    "type": "on-demand",
    "verified": {"eq": True},
    "rentable": {"eq": True},
    "gpu_name": {"in": ["RTX 3090", "RTX 4090"]},
    "disk_space": {"gte": 50},
    "inet_down": {"gte": 200},
    "order": [["dph_total", "asc"]],
    "allocated_storage": 50,
    "limit": 64,
}
"""The filter of the script: cheapest offers first, with the defaults of the vendor's client."""


def is_dead(instance: Instance) -> bool:
    """Return whether the vendor reports an instance as stopped, offline or unknown."""
    return instance.is_stopped or instance.actual_status in {"offline", "unknown"}

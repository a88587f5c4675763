"""Two ways to keep a hundred machines: this project's, and the script that everybody writes first."""

from collections.abc import Mapping
from typing import Protocol

from simulation.market.world import CHUNK_VIDEOS, World
from validation.domain import Seconds
from validation.errors import FleetError
from validation.fleet.launch_spec import LaunchSpec, build_create_request
from validation.fleet.reconcile import ReconcileContext, Report, reconcile
from validation.ledger.fleet import scale_to_zero, set_target
from validation.vast.errors import OfferGone
from validation.vast.instances import Instance
from validation.vast.offers import OfferFilter

FLEET = "soak"
TICK_S: Seconds = 120.0
ORDER = LaunchSpec("ghcr.io/o/worker:1", OfferFilter(), CHUNK_VIDEOS)
ENVIRONMENT: Mapping[str, str] = {"DATABASE_URL": "postgresql://box@ledger/fleet"}


class Strategy(Protocol):
    """Keeps machines, one tick at a time."""

    name: str

    def tick(self) -> None:
        """Look and act once; takes as long as the vendor's paces make it take."""

    def dismiss(self) -> bool:
        """Do one tick of ending. Whether it believes that nothing is left."""


class FleetStrategy:
    """`reconcile_fleet`, with its ledger and caps."""

    name = "this fleet"

    def __init__(self, world: World, *, machines: int, usd_per_hour: float, usd: float) -> None:
        self._desk = ReconcileContext(world.ledger, world.client, FLEET, lambda: ENVIRONMENT)
        self.reports: list[Report] = []
        self._dismissed = False
        set_target(
            world.ledger, FLEET, machines=machines, max_usd_per_hour=usd_per_hour, max_usd=usd, order=ORDER.to_json()
        )

    def tick(self) -> None:
        if report := reconcile(self._desk):
            self.reports.append(report)

    def dismiss(self) -> bool:
        if not self._dismissed:
            scale_to_zero(self._desk.engine, FLEET)
            self._dismissed = True
        self.tick()
        return self.reports[-1].is_empty


class CheapestStrategy:
    """Rents the cheapest offers that meet the user's filter, and replaces what dies.

    Better than the script: it keeps the vendor's paces, never repeats a create, waits for a listing that adds up, and
    destroys what is dead as long as it is listed. Like it: a machine that is listed as up is believed to work, and at
    the end each is destroyed once.
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

    def dismiss(self) -> bool:
        for instance in self._client.list_instances().instances:
            self._destroy(instance)
        return True

    def _rent(self, names: list[str]) -> None:
        try:
            offers = self._client.search(CHEAPEST) if names else []
        except FleetError:
            return
        while names and offers:
            offer = offers.pop(0)
            order = build_create_request(ORDER, offer, label=names[0], worker_id=names[0], environment=ENVIRONMENT)
            try:
                self._client.create(offer.id, order)
            except OfferGone:
                continue
            except FleetError:  # perhaps it was rented: the next listing shows it
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
"""The user's own filter, cheapest first, with the defaults of the vendor's client."""


def is_dead(instance: Instance) -> bool:
    """Whether the vendor says that a machine is not up and will not be."""
    return instance.is_stopped or instance.actual_status in {"offline", "unknown"}

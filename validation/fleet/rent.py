"""Which offers to take."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from validation.fleet.actions import Plan, Rent
from validation.fleet.budget import BudgetState
from validation.vast.offers import Offer

if TYPE_CHECKING:
    from validation.fleet.plan import FleetSnapshot


def choose_offers(picture: "FleetSnapshot", lacking: int) -> Plan:
    """Take the best offers that caps, bans and hosts allow, each for the lowest free slot."""
    count = min(lacking, picture.rules.rents_a_tick)
    if count == 0 or picture.offers is None:
        refusal = picture.purse.rejection_reason(0.0, 0.0, hours=picture.rules.rent_runway_h) if count else None
        return Plan(to_rent=0 if refusal else count, notes=(refusal,) if refusal else ())
    slots, hosts = _free_slots(picture), _hosts(picture)
    rents: list[Rent] = []
    spares: list[Offer] = []
    notes: list[str] = []
    purse = picture.purse
    for offer in _eligible(picture):
        if hosts[offer.host_id] >= picture.desired.max_per_host:
            continue
        hosts[offer.host_id] += 1
        if len(rents) == count:
            spares.append(offer)  # the ledger holds it against the caps, should it come to that
            continue
        refusal = purse.rejection_reason(offer.usd_per_hour, offer.usd_once, hours=picture.rules.rent_runway_h)
        if refusal:
            notes.append(refusal)
            break
        purse = _spend(purse, offer)
        rents.append(Rent(next(slots), offer))
    if len(rents) < count and not notes:
        notes.append(f"{count} more machines are wanted and the market has {len(rents)} good enough")
    return Plan(tuple(rents), count, tuple(spares), tuple(notes))


def _eligible(picture: "FleetSnapshot") -> Iterator[Offer]:
    """Offers of machines that are neither banned nor ours already."""
    banned = {(ban.kind, ban.vendor_id) for ban in picture.bans if ban.expires_at > picture.now}
    ours = {machine.machine_id for machine in picture.machines if machine.state != "gone"}
    for offer in picture.offers or ():
        if offer.machine_id in ours or ("machine", offer.machine_id) in banned or ("host", offer.host_id) in banned:
            continue
        ours.add(offer.machine_id)
        yield offer


def _free_slots(picture: "FleetSnapshot") -> Iterator[int]:
    taken = {machine.slot for machine in picture.machines if machine.state != "gone"}
    slot = 1
    while True:
        if slot not in taken:
            yield slot
        slot += 1


def _hosts(picture: "FleetSnapshot") -> Counter[int]:
    return Counter(machine.host_id for machine in picture.machines if machine.state != "gone")


def _spend(purse: BudgetState, offer: Offer) -> BudgetState:
    return replace(
        purse, usd_per_hour=purse.usd_per_hour + offer.usd_per_hour, spent_usd=purse.spent_usd + offer.usd_once
    )

"""Machines of ours as the vendor lists them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Instance:
    """A row of the listing, only what decides or may be shown. A row also holds the box's secrets: those stay out."""

    id: int
    label: str
    machine_id: int | None = None
    actual_status: str | None = None
    """What the box last said: loading, running, exited... None while it is being made."""
    cur_state: str | None = None
    intended_status: str | None = None
    status_msg: str | None = None
    dph_total: float = 0.0
    is_bid: bool = False

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> Self:
        """Read a row. Raises KeyError, TypeError or ValueError where it has no usable id."""
        message = row.get("status_msg")
        return cls(
            id=int(row["id"]),
            label=str(row.get("label") or ""),
            machine_id=row.get("machine_id"),
            actual_status=row.get("actual_status"),
            cur_state=row.get("cur_state"),
            intended_status=row.get("intended_status"),
            status_msg=str(message).strip()[:300] if message else None,
            dph_total=float(row.get("dph_total") or 0.0),
            is_bid=bool(row.get("is_bid")),
        )

    @property
    def is_stopped(self) -> bool:
        """Stopped by somebody: outbid, out of credit, past its contract. It bills its disk and may come back."""
        return self.cur_state == "stopped" or self.actual_status in {"stopped", "exited", "frozen"}

    def to_log(self) -> dict[str, object]:
        """The fields that may be logged: all of them, because the others were never read."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Listing:
    """What the vendor listed. An incomplete listing proves that something is there, never that it is not."""

    instances: tuple[Instance, ...]
    why_incomplete: str | None = None

    @property
    def complete(self) -> bool:
        return self.why_incomplete is None

    def ours(self, prefix: str) -> tuple[Instance, ...]:
        """The machines whose label is of this fleet. The others are none of our business."""
        return tuple(instance for instance in self.instances if instance.label.startswith(prefix))

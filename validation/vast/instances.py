"""Instances: boxes as the vendor lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

MAX_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Instance:
    """A row of the listing. Only fields that a decision or a log needs: a row also holds the box's secrets."""

    id: int
    label: str
    machine_id: int | None = None
    actual_status: str | None = None
    """What the box reported last: loading, running, exited... None while it is being created."""
    cur_state: str | None = None
    status_msg: str | None = None
    dph_total: float = 0.0
    """Dollars per hour."""

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
            status_msg=str(message).strip()[:MAX_MESSAGE_CHARS] if message else None,
            dph_total=float(row.get("dph_total") or 0.0),
        )

    @property
    def is_stopped(self) -> bool:
        """Outbid, out of credit, or past its contract. A stopped instance bills its disk and may start again."""
        return self.cur_state == "stopped" or self.actual_status in {"stopped", "exited", "frozen"}


@dataclass(frozen=True, slots=True)
class Listing:
    """What the vendor listed. An incomplete listing proves that an instance exists, never that one does not."""

    instances: tuple[Instance, ...]
    why_incomplete: str | None = None

    @property
    def complete(self) -> bool:
        return self.why_incomplete is None

    def of_fleet(self, label_prefix: str) -> tuple[Instance, ...]:
        """The instances of one fleet, by the prefix of their labels."""
        return tuple(instance for instance in self.instances if instance.label.startswith(label_prefix))

"""The vendor's rate limits per API key, and its daily quota of rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from validation.domain import Seconds

INTERVALS_S: Mapping[str, Seconds] = {
    "search": 0.0, "create": 4.5, "destroy": 3.0, "list": 1.0, "show": 2.0, "update": 1.0, "bid": 5.5, "account": 1.0,
    "metrics": 3.0,
}  # fmt: skip
PENALTIES_S: Mapping[str, Seconds] = {"create": 12.0}
SEARCHES_PER_MINUTE = 10
ROWS_PER_DAY = 20_000


@dataclass
class Throttle:
    """Enforces the vendor's rate limits per API key: a minimum interval per kind of request, and searches per minute.

    Requests are refused only if ``strict`` is true. Refusals rotate through the formats of the vendor.
    """

    strict: bool = False
    free_at: dict[tuple[str, str], Seconds] = field(default_factory=dict)
    searches: dict[str, list[Seconds]] = field(default_factory=dict)
    rows_read: dict[int, int] = field(default_factory=dict)
    refusals: int = 0

    def refuse(self, kind: str, key: str, now: Seconds) -> tuple[dict[str, Any] | str, dict[str, str]] | None:
        """Return the body and headers of a reply with status 429; None if the request may pass."""
        interval = INTERVALS_S.get(kind, 0.0)
        free_at = self.free_at.get((kind, key), now)
        if kind == "search":
            recent = [at for at in self.searches.get(key, []) if at > now - 60]
            self.searches[key] = [*recent, now]
            free_at = recent[0] + 60 if len(recent) >= SEARCHES_PER_MINUTE else now
        if not self.strict or now >= free_at:
            self.free_at[kind, key] = now + interval
            return None
        self.free_at[kind, key] = now + interval + PENALTIES_S.get(kind, 0.0)
        self.refusals += 1
        return self._refusal(interval, self.free_at[kind, key] - now)

    def count_rows(self, rows: int, now: Seconds) -> dict[str, Any] | None:
        """Count the rows that a search returned. Return the body of a reply 429 if they exceed the quota of the day."""
        day = int(now // 86_400)
        if self.rows_read.get(day, 0) + rows > ROWS_PER_DAY:
            left_s = int(86_400 - now % 86_400)
            return {"error": "search_quota_exceeded", "retry_after": left_s, "limit": ROWS_PER_DAY, "remaining": 0}
        self.rows_read[day] = self.rows_read.get(day, 0) + rows
        return None

    def _refusal(self, interval: Seconds, wait_s: Seconds) -> tuple[dict[str, Any] | str, dict[str, str]]:
        text = f"API requests too frequent: endpoint threshold={interval}"
        wait = max(1, round(wait_s))
        styles: list[tuple[dict[str, Any] | str, dict[str, str]]] = [
            (text, {}),
            ({"detail": text}, {}),
            ({"success": False, "error": "rate_limit_exceeded", "msg": text}, {}),
            ({"success": False, "error": "rate_limit_exceeded", "msg": text, "retry_after": wait}, {}),
            ({"detail": text}, {"Retry-After": str(wait)}),
        ]
        return styles[self.refusals % len(styles)]

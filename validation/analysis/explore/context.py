"""What all parts of the page share: the table, the rules, the review decisions and the audio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from validation.analysis.explore.audio import SourceAudio
from validation.analysis.explore.queries import SegmentTable
from validation.analysis.explore.reviews import Reviews
from validation.analysis.explore.sql import Filter
from validation.scoring.verdict import Rules


@dataclass(frozen=True, slots=True)
class ExploreContext:
    """One opened set of results."""

    title: str
    table: SegmentTable
    rules: Rules
    rules_text: str
    """The file that the rules were read from."""
    reviews: Reviews
    audio: SourceAudio
    described: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """The unit and the description of each column."""
    other_rules: Mapping[str, Rules] = field(default_factory=dict)
    """Rules to compare with, by their names."""

    def read_rules(self, stored: str | None) -> Rules:
        """The rules of the page: as they were opened, or as the user changed them."""
        return Rules.model_validate_json(stored) if stored else self.rules

    def read_filter(self, stored: Mapping[str, Any] | None, grid: Mapping[str, Any] | None) -> Filter:
        """The filter of the page."""
        stored = stored or {}
        return Filter(
            ranges={name: (low, high) for name, (low, high) in (stored.get("ranges") or {}).items()},
            values=stored.get("values") or {},
            grid=grid or {},
            where=stored.get("where") or "",
        )

    def limits_of(self, name: str, rules: Rules) -> list[float]:
        """The limits that rules set for a column of numbers."""
        return sorted(
            {
                float(condition.value)
                for rule in rules.effective
                for condition in rule.when
                if condition.column == name and isinstance(condition.value, int | float)
            }
        )

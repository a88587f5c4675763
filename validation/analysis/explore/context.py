"""Objects that all parts of the page share: the table, the rules, the review decisions and the audio."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from validation.analysis.explore.audio import SourceAudio
from validation.analysis.explore.queries import SegmentTable
from validation.analysis.explore.reviews import Reviews
from validation.analysis.explore.revisions import RevisionComparison
from validation.analysis.explore.sql import Filter
from validation.scoring.verdict import Rules


@dataclass(frozen=True, slots=True)
class ExploreContext:
    """The results that one server of `vfleet explore` shows."""

    title: str
    table: SegmentTable
    rules: Rules
    rules_text: str
    """Content of the rules file from which ``rules`` was read."""
    reviews: Reviews
    audio: SourceAudio
    described: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Unit and description per column."""
    other_rules: Mapping[str, Rules] = field(default_factory=dict)
    """Other rules that the page can compare with ``rules``, by name."""
    revisions: RevisionComparison | None = None
    """The comparison with an earlier revision, if the user named one."""

    def read_rules(self, stored: str | None) -> Rules:
        """Parse the rules that the user edited, given as JSON; return ``rules`` if ``stored`` is empty."""
        return Rules.model_validate_json(stored) if stored else self.rules

    def read_filter(self, stored: Mapping[str, Any] | None, grid: Mapping[str, Any] | None) -> Filter:
        """Build a filter from the filter that the browser stores, and from the filter model of the AG Grid table."""
        stored = stored or {}
        return Filter(
            ranges={name: (low, high) for name, (low, high) in (stored.get("ranges") or {}).items()},
            values=stored.get("values") or {},
            grid=grid or {},
            where=stored.get("where") or "",
        )

    def limits_of(self, name: str, rules: Rules) -> list[float]:
        """Return the distinct limits of a numeric column in ``rules``, ascending, without limits per language."""
        return sorted(
            {
                float(condition.value)
                for rule in rules.effective
                for condition in rule.when
                if condition.column == name and isinstance(condition.value, int | float)
            }
        )

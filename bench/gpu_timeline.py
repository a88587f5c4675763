"""Describe the time line of a device from a profile: how long it computed, and the longest gaps."""

from collections.abc import Iterable, Sequence
from typing import Any

Span = tuple[float, float]
"""Start and end, in microseconds."""


def device_spans(profile: Any, device: str) -> list[Span]:
    """List the spans of a profile in which the device computed or copied; on a CPU those of its operators."""
    kind = "CUDA" if device == "cuda" else "CPU"
    events = (event for event in profile.events() if str(event.device_type).endswith(kind))
    return [(event.time_range.start, event.time_range.end) for event in events]


def find_gaps(spans: Iterable[Span]) -> list[Span]:
    """List the times between the first start and the last end in which no span is, in order of time."""
    gaps, reached = [], None
    for start, end in sorted(spans):
        if reached is not None and start > reached:
            gaps.append((reached, start))
        reached = end if reached is None else max(reached, end)
    return gaps


def describe_timeline(spans: Sequence[Span], *, longest: int = 5) -> dict[str, Any]:
    """Return the length of the time line, the share in which the device computed, and its longest gaps."""
    if not spans:
        return {"whole_ms": 0.0, "busy": 0.0, "gaps": 0, "longest_gaps_ms": []}
    begin, end = min(start for start, _ in spans), max(end for _, end in spans)
    gaps = [stop - start for start, stop in find_gaps(spans)]
    return {
        "whole_ms": (end - begin) / 1e3,
        "busy": 1 - sum(gaps) / (end - begin) if end > begin else 1.0,
        "gaps": len(gaps),
        "longest_gaps_ms": [gap / 1e3 for gap in sorted(gaps, reverse=True)[:longest]],
    }

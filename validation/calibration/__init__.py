"""Measure signals and verdict rules on trusted clips with injected faults, and propose limits."""

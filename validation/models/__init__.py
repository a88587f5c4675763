"""The speech models: one file each, grouped into suites."""

"""Prefect tasks: one call of the core each, with its retry policy."""

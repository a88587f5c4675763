"""Tiny random models in the layouts of the production ones, for tests and benchmarks."""

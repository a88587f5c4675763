"""Tiny random models in the file layouts of the production models, for tests and benchmarks."""

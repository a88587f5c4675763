"""Chaos runs: real processes, faults on a seeded schedule, then an audit that must find nothing.

The product does not depend on this package. Faults come from outside, as in production: signals, servers that die, an
object store with errors, edited times.
"""

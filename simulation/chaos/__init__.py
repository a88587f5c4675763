"""Chaos runs: a fleet of real processes on this machine, faults on a seeded schedule, then an audit without findings.

The product does not depend on this package. Faults are injected from outside, as in production: by signals, by killing
servers, by errors of the object store, and by changing times in the ledger.
"""

"""Market simulation: the real ledger and reconciler against a fake vendor, with simulated workers, in virtual time."""

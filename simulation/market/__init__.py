"""Market simulation: the real ledger and reconciler, a fake vendor and simulated workers, in virtual time."""

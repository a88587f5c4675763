"""How far, how fast, at what cost, and what is wrong: one reading of the ledger, shown in several ways."""

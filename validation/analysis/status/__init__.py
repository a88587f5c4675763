"""The fleet's status: progress, rate, cost and problems, read once from the ledger and shown in several forms."""

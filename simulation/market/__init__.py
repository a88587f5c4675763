"""A fleet's day in minutes: the real ledger and reconciler, a fake vendor, boxes that work without the work."""

"""Which segments are good enough? Verdict rules over committed shards, without a model and without a card."""

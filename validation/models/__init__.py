"""The speech models, the suites that group these models, and the batches in which models score segments."""

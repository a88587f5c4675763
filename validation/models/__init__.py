"""The speech models, the suites that group them, and the batches in which segments are scored."""

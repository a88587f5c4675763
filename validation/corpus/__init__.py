"""The corpus: tars in an object store, read as a stream and decoded; and the samples that look like it."""

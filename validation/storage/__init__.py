"""The object store: streams, listings, conditional writes and its errors."""

"""A page of results, from committed shards: what was found, why, and what it sounds like."""

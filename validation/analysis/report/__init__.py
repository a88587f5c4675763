"""The HTML report: what was found in committed shards, why, and how it sounds."""

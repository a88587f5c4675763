"""Shards: the result rows of every segment, as parquet files with manifests. FORMAT.md defines the format."""

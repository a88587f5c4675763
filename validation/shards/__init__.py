"""Shards: what is kept of every segment, as parquet files with manifests. FORMAT.md has their promises."""

"""Shards: parquet files with one result row per segment, and their manifests. FORMAT.md defines the format."""

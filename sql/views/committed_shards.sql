-- committed_shards: the shards that exist for readers, and no others.
CREATE OR REPLACE VIEW validation.committed_shards AS
SELECT c.shard_key, c.shard_sha256, c.shard_bytes, c.segments, c.videos_validated, c.suite, c.chunk_id, c.worker_id,
       c.flow_run_id, c.closed_at
FROM validation_chunks c
WHERE c.shard_key IS NOT NULL
ORDER BY c.shard_key;

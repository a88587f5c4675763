-- current_results: what readers read of each video, by the chunk that wrote it and the name of the shard that it wrote
-- it to, wherever a compaction has put it since. A row stands as long as nobody wrote the same suite and revision anew,
-- and no later revisions have answers of every model that it asked.
-- MATERIALIZED: a handful of revisions, which would otherwise be counted again for every row.
CREATE OR REPLACE VIEW validation.current_results AS
WITH revisions AS MATERIALIZED (
    SELECT suite, revision, models, min(committed_at) AS since
    FROM validation_shards
    GROUP BY suite, revision, models
)
SELECT r.video_id, c.chunk_id, c.worker_id, c.machine, s.shard_key, s.committed_at, r.suite, r.revision, r.segments
FROM validation_chunks c
JOIN validation_shards s  ON s.chunk_id = c.chunk_id
JOIN validation_results r ON r.shard_key = s.shard_key
JOIN revisions own        ON own.suite = r.suite AND own.revision = r.revision
WHERE NOT EXISTS (
        SELECT FROM validation_results again
        JOIN validation_shards elsewhere ON elsewhere.shard_key = again.shard_key
        WHERE again.video_id = r.video_id AND again.suite = r.suite AND again.revision = r.revision
          AND elsewhere.chunk_id IS NOT NULL AND elsewhere.committed_at > s.committed_at)
  AND (own.models = '{}' OR EXISTS (
        SELECT FROM jsonb_object_keys(own.models) asked
        WHERE NOT EXISTS (
            SELECT FROM validation_results newer
            JOIN revisions later ON later.suite = newer.suite AND later.revision = newer.revision
            WHERE newer.video_id = r.video_id AND newer.suite = r.suite AND newer.superseded_at IS NULL
              AND later.since > own.since AND later.models ? asked)));

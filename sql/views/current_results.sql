-- current_results: the results that readers read of each video, with the chunk that wrote them and the shard that it
-- wrote them to, wherever a compaction has put them since. A result is current until the same suite and revision is
-- written again, or later revisions have answers of every model that it asked.
-- MATERIALIZED: a few revisions, which would otherwise be counted again for every row.
CREATE OR REPLACE VIEW validation.current_results AS
WITH revisions AS MATERIALIZED (
    SELECT suite, revision, models, min(committed_at) AS since
    FROM public.validation_shards
    GROUP BY suite, revision, models
)
SELECT r.video_id, c.chunk_id, c.worker_id, c.instance_label, s.shard_key, s.committed_at, r.suite, r.revision,
       r.segments
FROM public.validation_chunks c
JOIN public.validation_shards s  ON s.chunk_id = c.chunk_id
JOIN public.validation_results r ON r.shard_key = s.shard_key
JOIN revisions own        ON own.suite = r.suite AND own.revision = r.revision
WHERE NOT EXISTS (
        SELECT FROM public.validation_results again
        JOIN public.validation_shards other ON other.shard_key = again.shard_key
        WHERE again.video_id = r.video_id AND again.suite = r.suite AND again.revision = r.revision
          AND other.chunk_id IS NOT NULL AND other.committed_at > s.committed_at)
  AND (own.models = '{}' OR EXISTS (
        SELECT FROM jsonb_object_keys(own.models) asked
        WHERE NOT EXISTS (
            SELECT FROM public.validation_results newer
            JOIN revisions later ON later.suite = newer.suite AND later.revision = newer.revision
            WHERE newer.video_id = r.video_id AND newer.suite = r.suite AND newer.superseded_at IS NULL
              AND later.since > own.since AND later.models ? asked)));

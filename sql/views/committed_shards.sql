-- committed_shards: the shards that exist for readers, and no others. The rows of the videos in `superseded` are not to
-- be read: they stand in a newer shard of the same suite and revision. Nor are canaries, which no reader is to take for
-- data: `withheld` names both. Everything that a reader needs is in this one
-- statement, and so of one moment. revision_since orders the revisions of a suite: the later one is preferred.
CREATE OR REPLACE VIEW validation.committed_shards AS
SELECT s.shard_key, s.shard_sha256, s.shard_bytes, s.segments, s.videos AS videos_validated, s.suite, s.chunk_id,
       c.worker_id, c.flow_run_id, s.committed_at AS closed_at, s.revision, s.models, since.revision_since,
       stands.superseded, stands.withheld
FROM validation_shards s
JOIN (
    SELECT r.shard_key,
           coalesce(array_agg(r.video_id) FILTER (WHERE r.superseded_at IS NOT NULL), '{}') AS superseded,
           coalesce(array_agg(r.video_id) FILTER (WHERE r.superseded_at IS NOT NULL OR n.video_id IS NOT NULL), '{}')
               AS withheld
    FROM validation_results r
    LEFT JOIN validation.canaries n USING (video_id)
    GROUP BY 1
    HAVING bool_or(r.superseded_at IS NULL)
) stands USING (shard_key)
JOIN (
    SELECT suite, revision, min(committed_at) AS revision_since FROM validation_shards GROUP BY 1, 2
) since ON since.suite = s.suite AND since.revision = s.revision
LEFT JOIN validation_chunks c USING (chunk_id)
ORDER BY s.shard_key;

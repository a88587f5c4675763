-- committed_shards: the shards with current results, which readers read. Readers skip the rows of the videos in
-- `superseded`, because a newer shard of the same suite and revision has them. `withheld` has these videos and the
-- canaries, which are no training data. The view has everything that a reader needs, so one statement sees the state of
-- one moment. revision_since orders the revisions of a suite: readers prefer the latest.
CREATE OR REPLACE VIEW validation.committed_shards AS
SELECT s.shard_key, s.shard_sha256, s.shard_bytes, s.segments, s.videos AS videos_validated, s.suite, s.chunk_id,
       c.worker_id, c.flow_run_id, s.committed_at AS closed_at, s.revision, s.models, since.revision_since,
       present.superseded, present.withheld
FROM public.validation_shards s
JOIN (
    SELECT r.shard_key,
           coalesce(array_agg(r.video_id) FILTER (WHERE r.superseded_at IS NOT NULL), '{}') AS superseded,
           coalesce(array_agg(r.video_id) FILTER (WHERE r.superseded_at IS NOT NULL OR n.video_id IS NOT NULL), '{}')
               AS withheld
    FROM public.validation_results r
    LEFT JOIN validation.canaries n USING (video_id)
    GROUP BY 1
    HAVING bool_or(r.superseded_at IS NULL)
) present USING (shard_key)
JOIN (
    SELECT suite, revision, min(committed_at) AS revision_since FROM public.validation_shards GROUP BY 1, 2
) since ON since.suite = s.suite AND since.revision = s.revision
LEFT JOIN public.validation_chunks c USING (chunk_id)
ORDER BY s.shard_key;

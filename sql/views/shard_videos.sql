-- shard_videos: which videos stand in which shard that is not deleted, with how many segments, and whether a newer
-- shard has superseded them there.
CREATE OR REPLACE VIEW validation.shard_videos AS
SELECT s.shard_key, r.video_id, q.language, q.segment_count, r.segments, s.committed_at AS validated_at,
       r.superseded_at IS NOT NULL AS superseded, r.suite, r.revision
FROM validation_shards s
JOIN validation_results r USING (shard_key)
LEFT JOIN video_queue q USING (video_id)
WHERE s.deleted_at IS NULL
ORDER BY s.shard_key, r.video_id;

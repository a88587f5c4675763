-- shard_videos: the videos in each shard that is not deleted, with their segments, and whether a newer shard superseded
-- them.
CREATE OR REPLACE VIEW validation.shard_videos AS
SELECT s.shard_key, r.video_id, q.language, q.segment_count, r.segments, s.committed_at AS validated_at,
       r.superseded_at IS NOT NULL AS superseded, r.suite, r.revision
FROM public.validation_shards s
JOIN public.validation_results r USING (shard_key)
LEFT JOIN public.video_queue q USING (video_id)
WHERE s.deleted_at IS NULL
ORDER BY s.shard_key, r.video_id;

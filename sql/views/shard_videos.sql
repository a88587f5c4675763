-- shard_videos: which videos stand in which committed shard, with how many segments.
CREATE OR REPLACE VIEW validation.shard_videos AS
SELECT c.shard_key, q.video_id, q.language, q.segment_count, q.validation_segments AS segments, q.validated_at
FROM validation_chunks c
JOIN video_queue q ON q.validation_chunk = c.chunk_id AND q.validation_status = 'validated'
WHERE c.shard_key IS NOT NULL
ORDER BY c.shard_key, q.video_id;

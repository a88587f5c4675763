-- video_outcomes: what became of every transcribed video. One row a video: for small queues, or with a WHERE.
CREATE OR REPLACE VIEW validation.video_outcomes AS
SELECT q.video_id, q.language, q.segment_count, q.validation_status, q.validation_segments, q.validation_error,
       q.validation_attempts, q.validation_crashes, q.validated_at, c.worker_id, c.suite, c.shard_key
FROM video_queue q
LEFT JOIN validation_chunks c ON c.chunk_id = q.validation_chunk
WHERE q.status = 'done'
ORDER BY q.video_id;

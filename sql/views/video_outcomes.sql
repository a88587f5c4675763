-- video_outcomes: the state of every transcribed video, one row each. For small queues, or with a WHERE.
CREATE OR REPLACE VIEW validation.video_outcomes AS
SELECT q.video_id, q.language, q.segment_count, q.validation_status, q.validation_segments, q.validation_error,
       q.validation_attempts, q.validation_crashes, q.validated_at, c.worker_id, c.suite, r.shard_key
FROM public.video_queue q
LEFT JOIN public.validation_chunks c ON c.chunk_id = q.validation_chunk
LEFT JOIN public.validation_shards s ON s.chunk_id = c.chunk_id
LEFT JOIN public.validation_results r ON r.video_id = q.video_id AND r.superseded_at IS NULL
                              AND r.suite = s.suite AND r.revision = s.revision
WHERE q.status = 'done'
ORDER BY q.video_id;

-- autocommit: CREATE INDEX CONCURRENTLY cannot run inside a transaction.
-- for pending_canaries and current_results: all results of one video, superseded or not
CREATE INDEX CONCURRENTLY IF NOT EXISTS validation_results_of_video ON validation_results (video_id);

-- for eta and progress_history: the videos that failed for good, by chunk
CREATE INDEX CONCURRENTLY IF NOT EXISTS video_queue_failed ON video_queue (validation_chunk)
    WHERE validation_status = 'validation_failed';

-- autocommit: CREATE INDEX CONCURRENTLY cannot run inside a transaction.
-- serves unjudged_canaries and standing_results: all that ever stood of one video, superseded or not
CREATE INDEX CONCURRENTLY IF NOT EXISTS validation_results_of_video ON validation_results (video_id);

-- serves eta and progress_history: the videos that failed for good, by the chunk in which they did
CREATE INDEX CONCURRENTLY IF NOT EXISTS video_queue_failed ON video_queue (validation_chunk)
    WHERE validation_status = 'validation_failed';

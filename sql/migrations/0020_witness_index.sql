-- autocommit: CREATE INDEX CONCURRENTLY cannot run inside a transaction.
-- for unwitnessed_failures: the few videos that one box has failed
CREATE INDEX CONCURRENTLY IF NOT EXISTS video_queue_unwitnessed ON video_queue (video_id)
    WHERE validation_status = 'pending' AND validation_witness IS NOT NULL;

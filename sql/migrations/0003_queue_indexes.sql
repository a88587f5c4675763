-- autocommit: CREATE INDEX CONCURRENTLY cannot run inside a transaction.
ALTER TABLE video_queue VALIDATE CONSTRAINT video_queue_validation_is_legal;

-- for pick_pending: claimable videos from a random hash on
CREATE INDEX CONCURRENTLY IF NOT EXISTS video_queue_claimable ON video_queue (hashtext(video_id))
    WHERE status = 'done' AND validation_status = 'pending' AND validation_crashes = 0;

-- for pick_crash_suspects: the few videos with crashes
CREATE INDEX CONCURRENTLY IF NOT EXISTS video_queue_suspects ON video_queue (validation_crashes, hashtext(video_id))
    WHERE status = 'done' AND validation_status = 'pending' AND validation_crashes > 0;

-- for commit_chunk, release_chunk and the sweep: the videos of one open chunk
CREATE INDEX CONCURRENTLY IF NOT EXISTS video_queue_held ON video_queue (validation_chunk)
    WHERE validation_status = 'validating';

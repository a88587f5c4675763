-- autocommit: CREATE INDEX CONCURRENTLY cannot run inside a transaction.
-- serves unjudged_canaries and standing_results: all that ever stood of one video, superseded or not
CREATE INDEX CONCURRENTLY IF NOT EXISTS validation_results_of_video ON validation_results (video_id);

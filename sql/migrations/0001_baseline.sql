-- The queue as the transcription pipeline leaves it, created only if it does not exist, as in a local stack or a test.
-- A live queue keeps its own definition.
CREATE TABLE IF NOT EXISTS video_queue (
    video_id      text PRIMARY KEY,
    status        text NOT NULL DEFAULT 'pending',  -- 'done' = transcribed; changed by the pipeline only
    language      text,
    segment_count integer,
    claimed_by    text,
    claimed_at    timestamptz
);

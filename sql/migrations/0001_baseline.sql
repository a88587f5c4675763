-- The queue as the transcription pipeline leaves it, created only where it does not exist:
-- a local stack or a test. A live queue keeps its own definition.
CREATE TABLE IF NOT EXISTS video_queue (
    video_id      text PRIMARY KEY,
    status        text NOT NULL DEFAULT 'pending',  -- 'done' = transcribed; moved by the pipeline, never by us
    language      text,
    segment_count integer,
    claimed_by    text,
    claimed_at    timestamptz
);

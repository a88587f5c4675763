-- Seconds of audio and verdicts of a committed shard, by the suite's own rules. Null where they were not counted: a chunk
-- without a shard, or one that was committed before this migration.
SET LOCAL lock_timeout = '5s';

ALTER TABLE validation_chunks
    ADD COLUMN IF NOT EXISTS audio_s           double precision,  -- decoded audio of its segments
    ADD COLUMN IF NOT EXISTS segments_accepted integer,
    ADD COLUMN IF NOT EXISTS segments_review   integer,
    ADD COLUMN IF NOT EXISTS segments_rejected integer;

ALTER TABLE validation_chunks
    DROP CONSTRAINT IF EXISTS validation_chunks_verdicts_add_up,
    ADD CONSTRAINT validation_chunks_verdicts_add_up CHECK (
        segments_accepted IS NULL AND segments_review IS NULL AND segments_rejected IS NULL
        OR shard_key IS NOT NULL AND segments_accepted >= 0 AND segments_review >= 0 AND segments_rejected >= 0
           AND segments_accepted + segments_review + segments_rejected = segments),
    DROP CONSTRAINT IF EXISTS validation_chunks_audio_is_of_a_shard,
    ADD CONSTRAINT validation_chunks_audio_is_of_a_shard CHECK (
        audio_s IS NULL OR shard_key IS NOT NULL AND audio_s >= 0);

-- The columns that validation adds to the queue. Constant defaults: no row is rewritten.
SET LOCAL lock_timeout = '5s';

ALTER TABLE video_queue
    ADD COLUMN IF NOT EXISTS validation_status     text        NOT NULL DEFAULT 'pending',
    ADD COLUMN IF NOT EXISTS validation_chunk      uuid,        -- while validating: the token that holds it; after: its last chunk
    ADD COLUMN IF NOT EXISTS validation_attempts   smallint    NOT NULL DEFAULT 0,  -- claims that are open or ended in its own failure
    ADD COLUMN IF NOT EXISTS validation_crashes    smallint    NOT NULL DEFAULT 0,  -- claims that died with their process
    ADD COLUMN IF NOT EXISTS validation_not_before timestamptz NOT NULL DEFAULT 'epoch',
    ADD COLUMN IF NOT EXISTS validation_error      text,
    ADD COLUMN IF NOT EXISTS validation_segments   integer,     -- found in the tar; may differ from segment_count
    ADD COLUMN IF NOT EXISTS validated_at          timestamptz;

ALTER TABLE video_queue
    DROP CONSTRAINT IF EXISTS video_queue_validation_is_legal,
    ADD CONSTRAINT video_queue_validation_is_legal CHECK (
        CASE validation_status
            -- claim_chunk changes it
            WHEN 'pending'           THEN validation_chunk IS NULL
            -- in one open chunk; commit_chunk, release_chunk or sweep_stale_claims changes it
            WHEN 'validating'        THEN validation_chunk IS NOT NULL AND claimed_at IS NOT NULL
            -- its rows are in the shard of its chunk; requeue_videos changes it
            WHEN 'validated'         THEN validation_chunk IS NOT NULL AND validated_at IS NOT NULL
            -- trying again cannot help; requeue_videos changes it
            WHEN 'validation_failed' THEN validation_error IS NOT NULL
            ELSE false
        END
    ) NOT VALID;  -- the next migration checks the old rows, without blocking writers

-- What boxes decided about videos without validating them, for undo_box and for a second witness; and the boxes that the
-- ledger quarantined. In the schema that no public API exposes, and granted to no role.
SET LOCAL lock_timeout = '5s';

CREATE TABLE IF NOT EXISTS validation.box_decisions (
    decided_at     timestamptz NOT NULL DEFAULT now(),
    worker_id      text NOT NULL,
    instance_label text,     -- the rented box
    owner          text,     -- see box_owner; null: a ledger without box keys
    chunk_id       uuid NOT NULL,
    video_id       text NOT NULL,
    kind           text NOT NULL,
    cost           smallint NOT NULL,  -- attempts, crashes or losses that it added to the video
    refuted_at     timestamptz,        -- the control plane read the video's object without an error
    CONSTRAINT box_decisions_kind_is_known CHECK (kind IN (
        'failed',     -- another try cannot help
        'postponed',  -- with a back-off
        'crash',      -- its flow process died
        'loss'        -- the box was lost
    ))
);
CREATE INDEX IF NOT EXISTS box_decisions_of_box   ON validation.box_decisions (worker_id, decided_at);
CREATE INDEX IF NOT EXISTS box_decisions_of_video ON validation.box_decisions (video_id);

CREATE TABLE IF NOT EXISTS validation.box_quarantines (
    worker_id      text NOT NULL,
    instance_label text,
    since          timestamptz NOT NULL DEFAULT now(),
    finding        text NOT NULL,
    cleared_at     timestamptz
);

-- The owner of the one box that failed the video so far. Other boxes may claim it, this one may not. Null: none has.
ALTER TABLE video_queue ADD COLUMN IF NOT EXISTS validation_witness text;

-- for count_unproductive and check_failures
CREATE INDEX IF NOT EXISTS validation_chunks_claimed_at ON validation_chunks (worker_id, claimed_at);

ALTER TABLE validation.box_decisions   ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.box_quarantines ENABLE ROW LEVEL SECURITY;

-- Both have one more parameter from here on. Functions are created anew after every migration.
DROP FUNCTION IF EXISTS validation.pick_pending(integer, bigint, bigint, text[]);
DROP FUNCTION IF EXISTS validation.pick_crash_suspects(integer, text[]);

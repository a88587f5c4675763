-- Canaries, and how boxes answered them. In the schema that no public API exposes, and granted to no role: a box cannot
-- tell a canary from a video.
SET LOCAL lock_timeout = '5s';

CREATE TABLE IF NOT EXISTS validation.canaries (
    video_id   text PRIMARY KEY,
    suite      text NOT NULL,
    models     jsonb NOT NULL,  -- the revision of each model that gave the answers
    answers    jsonb NOT NULL CHECK (jsonb_array_length(answers) > 0),  -- [{verdict, signals}], one per segment, in order
    planted_at timestamptz NOT NULL DEFAULT now()
);

-- One row per canary and chunk that committed it.
CREATE TABLE IF NOT EXISTS validation.canary_judgements (
    video_id    text NOT NULL REFERENCES validation.canaries,
    chunk_id    uuid NOT NULL REFERENCES validation_chunks,
    outcome     text NOT NULL,
    finding     text,
    judged_at   timestamptz NOT NULL DEFAULT now(),
    pardoned_at timestamptz,  -- no longer counts since then
    PRIMARY KEY (video_id, chunk_id),
    CONSTRAINT canary_judgements_outcome_is_known CHECK (outcome IN (
        'right',
        'wrong',  -- quarantines the box
        'moot'    -- nothing to compare
    )),
    CONSTRAINT canary_judgements_say_why CHECK ((outcome = 'right') = (finding IS NULL)),
    CONSTRAINT canary_judgements_pardon_the_wrong CHECK (pardoned_at IS NULL OR outcome = 'wrong')
);

-- for check_not_quarantined: nearly always empty
CREATE INDEX IF NOT EXISTS canary_judgements_unpardoned ON validation.canary_judgements (chunk_id)
    WHERE outcome = 'wrong' AND pardoned_at IS NULL;

-- The label of the rented box that held a chunk, null for a box outside the fleet: of two boxes with one worker id, one
-- after the other, each is responsible for its own chunks. Set by claim_chunk.
ALTER TABLE validation_chunks ADD COLUMN IF NOT EXISTS machine text;

ALTER TABLE validation.canaries          ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.canary_judgements ENABLE ROW LEVEL SECURITY;

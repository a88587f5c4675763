-- Videos with known answers, and what machines said of them. In the schema that no public API shows, and granted to
-- nobody: a box cannot tell a canary from a video.
SET LOCAL lock_timeout = '5s';

CREATE TABLE IF NOT EXISTS validation.canaries (
    video_id   text PRIMARY KEY,
    suite      text NOT NULL,
    models     jsonb NOT NULL,  -- the revision of each model that gave the answers
    answers    jsonb NOT NULL CHECK (jsonb_array_length(answers) > 0),  -- [{verdict, signals}], one a segment, in order
    planted_at timestamptz NOT NULL DEFAULT now()
);

-- One row a canary and a machine that committed it.
CREATE TABLE IF NOT EXISTS validation.canary_judgements (
    video_id    text NOT NULL REFERENCES validation.canaries,
    chunk_id    uuid NOT NULL REFERENCES validation_chunks,
    outcome     text NOT NULL,
    finding     text,
    judged_at   timestamptz NOT NULL DEFAULT now(),
    pardoned_at timestamptz,  -- pardon_worker puts it here: this one is no reason any more
    PRIMARY KEY (video_id, chunk_id),
    CONSTRAINT canary_judgements_outcome_is_known CHECK (outcome IN (
        'right',
        'wrong',  -- until it is pardoned, a reason to distrust the machine
        'moot'    -- no answer, or one by other models: nothing to compare
    )),
    CONSTRAINT canary_judgements_say_why CHECK ((outcome = 'right') = (finding IS NULL)),
    CONSTRAINT canary_judgements_pardon_the_wrong CHECK (pardoned_at IS NULL OR outcome = 'wrong')
);

-- serves require_trust: nearly always empty
CREATE INDEX IF NOT EXISTS canary_judgements_unpardoned ON validation.canary_judgements (chunk_id)
    WHERE outcome = 'wrong' AND pardoned_at IS NULL;

-- Which machine held a chunk: of two machines that bear one worker's name in turn, each answers for its own. The label
-- of the rental; null for a machine that nobody rented. claim_chunk writes it.
ALTER TABLE validation_chunks ADD COLUMN IF NOT EXISTS machine text;

ALTER TABLE validation.canaries          ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.canary_judgements ENABLE ROW LEVEL SECURITY;

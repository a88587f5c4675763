-- What stands where, and by which models: one row an object that the ledger vouches for, one row a video in it.
SET LOCAL lock_timeout = '5s';

CREATE TABLE IF NOT EXISTS validation_shards (
    shard_key    text PRIMARY KEY,
    shard_sha256 text NOT NULL,
    shard_bytes  bigint NOT NULL,
    videos       integer NOT NULL,
    segments     integer NOT NULL,
    suite        text NOT NULL,
    models       jsonb NOT NULL,  -- the revision of each model that was asked
    revision     text GENERATED ALWAYS AS (left(md5(models::text), 12)) STORED,  -- the same in a word
    chunk_id     uuid UNIQUE REFERENCES validation_chunks,  -- null: compacted from older shards
    committed_at timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz,     -- forget_shards puts it here: the object may go, the row stays
    CONSTRAINT validation_shards_sha256_is_hex CHECK (shard_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT validation_shards_holds_something CHECK (videos > 0 AND segments >= 0)
);

CREATE TABLE IF NOT EXISTS validation_results (
    shard_key     text NOT NULL REFERENCES validation_shards,
    video_id      text NOT NULL,
    suite         text NOT NULL,
    revision      text NOT NULL,
    segments      integer NOT NULL,
    superseded_at timestamptz,    -- record_shard puts it here, when the same is committed again elsewhere
    PRIMARY KEY (shard_key, video_id)
);

-- The law of readers: each video stands in exactly one shard for each suite and revision. Serves record_shard,
-- requeue_videos and the views.
CREATE UNIQUE INDEX IF NOT EXISTS validation_results_current ON validation_results (video_id, suite, revision)
    WHERE superseded_at IS NULL;

-- Which models a requeued video wants; null is all of the suite. requeue_videos sets it anew each time.
ALTER TABLE video_queue ADD COLUMN IF NOT EXISTS validation_models text[];

-- What was committed before these tables were there. Its models are in the manifests, and not known here.
INSERT INTO validation_shards (shard_key, shard_sha256, shard_bytes, videos, segments, suite, models, chunk_id, committed_at)
SELECT c.shard_key, c.shard_sha256, c.shard_bytes, c.videos_validated, c.segments, c.suite, '{}', c.chunk_id, c.closed_at
FROM validation_chunks c
WHERE c.shard_key IS NOT NULL
ON CONFLICT DO NOTHING;
INSERT INTO validation_results (shard_key, video_id, suite, revision, segments)
SELECT s.shard_key, q.video_id, s.suite, s.revision, q.validation_segments
FROM validation_shards s
JOIN video_queue q ON q.validation_chunk = s.chunk_id AND q.validation_status = 'validated'
ON CONFLICT DO NOTHING;

ALTER TABLE validation_shards  ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation_results ENABLE ROW LEVEL SECURITY;

-- Functions are created anew after every migration. A claim returns one column more from here on, and requeue_videos
-- does what requeue_failed did.
DROP FUNCTION IF EXISTS validation.claim_chunk(uuid, text, uuid, integer, text[], integer, text);
DROP FUNCTION IF EXISTS validation.requeue_failed(text[]);

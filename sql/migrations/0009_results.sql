-- Which video is in which shard, and by which models: one row per shard, one row per video in it.
SET LOCAL lock_timeout = '5s';

CREATE TABLE IF NOT EXISTS validation_shards (
    shard_key    text PRIMARY KEY,
    shard_sha256 text NOT NULL,
    shard_bytes  bigint NOT NULL,
    videos       integer NOT NULL,
    segments     integer NOT NULL,
    suite        text NOT NULL,
    models       jsonb NOT NULL,  -- the revision of each model that was asked
    revision     text GENERATED ALWAYS AS (left(md5(models::text), 12)) STORED,  -- a hash of models
    chunk_id     uuid UNIQUE REFERENCES validation_chunks,  -- null: compacted from other shards
    committed_at timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz,     -- set by purge_retired_shards: the object is deleted, the row stays
    CONSTRAINT validation_shards_sha256_is_hex CHECK (shard_sha256 ~ '^[0-9a-f]{64}$'),
    CONSTRAINT validation_shards_holds_something CHECK (videos > 0 AND segments >= 0)
);

CREATE TABLE IF NOT EXISTS validation_results (
    shard_key     text NOT NULL REFERENCES validation_shards,
    video_id      text NOT NULL,
    suite         text NOT NULL,
    revision      text NOT NULL,
    segments      integer NOT NULL,
    superseded_at timestamptz,    -- set by record_shard when another shard has the same video, suite and revision
    PRIMARY KEY (shard_key, video_id)
);

-- Ensures that each video is current in one shard per suite and revision. For record_shard, requeue_videos and views.
CREATE UNIQUE INDEX IF NOT EXISTS validation_results_current ON validation_results (video_id, suite, revision)
    WHERE superseded_at IS NULL;

-- Which models a requeued video needs; null means all of the suite. Set by requeue_videos.
ALTER TABLE video_queue ADD COLUMN IF NOT EXISTS validation_models text[];

-- Shards that were committed before this migration. Their models are in the manifests and unknown here.
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
-- replaces requeue_failed.
DROP FUNCTION IF EXISTS validation.claim_chunk(uuid, text, uuid, integer, text[], integer, text);
DROP FUNCTION IF EXISTS validation.requeue_failed(text[]);

-- Functions and views are in a schema of their own, which a hosted Postgres does not expose to its public API.
CREATE SCHEMA IF NOT EXISTS validation;

-- One row per worker, as the dashboard reads it. Counters equal the sums over the worker's chunks at every commit.
CREATE TABLE IF NOT EXISTS worker_validators (
    worker_id               text PRIMARY KEY,
    status                  text NOT NULL DEFAULT 'online',
    gpu_type                text,
    gpu_vram_gb             real,
    current_video_id        text,
    videos_processed        integer DEFAULT 0,   -- validated
    videos_failed           integer DEFAULT 0,
    segments_processed      integer DEFAULT 0,
    avg_segs_per_second     real DEFAULT 0,      -- over the last ten videos, summed over the open chunks
    shards_written          integer DEFAULT 0,
    shards_uploaded         integer DEFAULT 0,
    total_parquet_mb        real DEFAULT 0,
    started_at              timestamptz DEFAULT now(),
    last_heartbeat_at       timestamptz DEFAULT now(),
    last_video_completed_at timestamptz,
    config_json             jsonb,
    last_error              text,
    flow_run_ids            uuid[] NOT NULL DEFAULT '{}',  -- the runs of its open chunks
    prefect_worker          text,
    CONSTRAINT worker_validators_status_is_known CHECK (status IN (
        'online',    -- sends heartbeats; set by register_worker and every heartbeat
        'draining',  -- takes no new chunk; set by drain_worker on SIGTERM, ended by retire_worker
        'stale',     -- without heartbeats; set by mark_stale_workers, ended by the next heartbeat
        'offline'    -- retired, or a day without heartbeats; set by retire_worker or mark_stale_workers
    ))
);

-- One row per claim, from its commit on one row per shard. chunk_id is the fencing token: its holder may write.
CREATE TABLE IF NOT EXISTS validation_chunks (
    chunk_id         uuid PRIMARY KEY,
    worker_id        text NOT NULL REFERENCES worker_validators,
    shard_number     integer NOT NULL,
    flow_run_id      uuid,
    suite            text NOT NULL,
    state            text NOT NULL DEFAULT 'open',
    claimed_at       timestamptz NOT NULL DEFAULT now(),
    lease_expires_at timestamptz NOT NULL,
    closed_at        timestamptz,
    close_reason     text,
    videos_claimed   integer NOT NULL,
    videos_validated integer NOT NULL DEFAULT 0,  -- while open: so far
    videos_failed    integer NOT NULL DEFAULT 0,
    segments         integer NOT NULL DEFAULT 0,
    segments_per_s   real NOT NULL DEFAULT 0,
    shard_key        text UNIQUE,
    shard_sha256     text,
    shard_bytes      bigint,
    UNIQUE (worker_id, shard_number),
    CONSTRAINT validation_chunks_state_is_known CHECK (state IN (
        'open',       -- held; commit_chunk, release_chunk or sweep_stale_claims changes it
        'committed',  -- done; its shard, if any video was validated, is read
        'released',   -- given back by its holder; no attempt was lost
        'expired'     -- taken back from a dead holder
    )),
    CONSTRAINT validation_chunks_closed_once CHECK ((state = 'open') = (closed_at IS NULL)),
    CONSTRAINT validation_chunks_counts_add_up CHECK (
        videos_validated >= 0 AND videos_failed >= 0 AND segments >= 0
        AND videos_validated + videos_failed <= videos_claimed),
    CONSTRAINT validation_chunks_shard_iff_committed CHECK (
        (shard_key IS NOT NULL) = (state = 'committed' AND videos_validated > 0)
        AND (shard_key IS NULL) = (shard_sha256 IS NULL)
        AND (shard_key IS NULL) = (shard_bytes IS NULL)),
    CONSTRAINT validation_chunks_nothing_kept CHECK (
        state IN ('open', 'committed') OR (videos_validated = 0 AND videos_failed = 0 AND segments = 0)),
    CONSTRAINT validation_chunks_sha256_is_hex CHECK (shard_sha256 ~ '^[0-9a-f]{64}$')
);

-- for the sweep, register_worker and update_worker_counters
CREATE INDEX IF NOT EXISTS validation_chunks_open ON validation_chunks (worker_id, lease_expires_at)
    WHERE state = 'open';
-- for throughput_recent and eta
CREATE INDEX IF NOT EXISTS validation_chunks_committed_at ON validation_chunks (closed_at)
    WHERE state = 'committed';

-- Only their owner reads and writes them directly: workers call functions, people read views.
ALTER TABLE worker_validators ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation_chunks ENABLE ROW LEVEL SECURITY;

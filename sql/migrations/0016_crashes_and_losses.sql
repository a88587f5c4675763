-- What distinguishes a video that kills its process from a box that was lost.
SET LOCAL lock_timeout = '5s';

-- When its holder last renewed it. With lease_expires_at it also says how long the lease is.
ALTER TABLE validation_chunks ADD COLUMN IF NOT EXISTS renewed_at timestamptz NOT NULL DEFAULT now();

-- Since when the worker's heartbeats have come without a gap of half a lease. Set by heartbeat_worker.
ALTER TABLE worker_validators ADD COLUMN IF NOT EXISTS heard_since timestamptz NOT NULL DEFAULT now();

-- Boxes that were lost with the video since its last crash (see return_crashed_videos).
ALTER TABLE video_queue ADD COLUMN IF NOT EXISTS validation_losses smallint NOT NULL DEFAULT 0;

-- Both have other parameters from here on. Functions are created anew after every migration.
DROP FUNCTION IF EXISTS validation.sweep_stale_claims(uuid[], integer);
DROP FUNCTION IF EXISTS validation.return_crashed_videos(uuid, integer);

-- One row per worker id, for lock_worker to lock. In the schema that no public API exposes, and granted to no role.
CREATE TABLE IF NOT EXISTS validation.worker_locks (worker_id text PRIMARY KEY);

ALTER TABLE validation.worker_locks ENABLE ROW LEVEL SECURITY;

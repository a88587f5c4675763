-- One row a worker's name, for lock_worker to lock. In the schema that no public API shows, and granted to nobody.
CREATE TABLE IF NOT EXISTS validation.worker_locks (worker_id text PRIMARY KEY);

ALTER TABLE validation.worker_locks ENABLE ROW LEVEL SECURITY;

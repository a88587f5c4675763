-- lock_worker: serialise the transactions that decide which instance has a worker id, whether or not it has a row yet.
-- A row in a table that no login reaches, and no advisory lock: any login may take and keep an advisory lock. Callers
-- have passed check_box_key, so a box can block itself only.
CREATE OR REPLACE FUNCTION validation.lock_worker(p_worker text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    INSERT INTO worker_locks (worker_id) VALUES (p_worker) ON CONFLICT DO NOTHING;
    SELECT FROM worker_locks l WHERE l.worker_id = p_worker FOR UPDATE;
$$;

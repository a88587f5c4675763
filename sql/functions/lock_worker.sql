-- lock_worker: lock a worker id, whether or not it has a row yet, until the transaction ends. So one transaction at a
-- time decides which instance has the worker id. The lock is a row in a table that no login reaches, and no advisory
-- lock, because any login may take and keep an advisory lock. Callers have passed check_box_key, so a box can block
-- only itself.
CREATE OR REPLACE FUNCTION validation.lock_worker(p_worker text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    INSERT INTO worker_locks (worker_id) VALUES (p_worker) ON CONFLICT DO NOTHING;
    SELECT FROM worker_locks l WHERE l.worker_id = p_worker FOR UPDATE;
$$;

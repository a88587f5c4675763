-- lock_worker: let one transaction at a time decide whose a worker's name is, whether or not it has a row yet.
-- A row that no login can reach, and no advisory lock: those may be taken by whoever can log in, and held for ever.
-- Callers have passed check_box_key, so a box holds up nobody but itself.
CREATE OR REPLACE FUNCTION validation.lock_worker(p_worker text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    INSERT INTO worker_locks (worker_id) VALUES (p_worker) ON CONFLICT DO NOTHING;
    SELECT FROM worker_locks l WHERE l.worker_id = p_worker FOR UPDATE;
$$;

-- lock_control_run: wait at most p_wait_s seconds until no other control run holds the lock, and take the lock. It is
-- held until the caller's transaction ends: at once when its process dies, and within p_idle_s seconds when its machine
-- is lost. Raises 55P03 if the other run still holds it. The lock is a row and no advisory lock, because any login may
-- take and keep an advisory lock.
CREATE OR REPLACE FUNCTION validation.lock_control_run(p_wait_s integer, p_idle_s integer) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    PERFORM set_config('idle_in_transaction_session_timeout', p_idle_s || 's', true);
    PERFORM set_config('lock_timeout', p_wait_s || 's', true);
    INSERT INTO worker_locks (worker_id) VALUES ('(control run)') ON CONFLICT DO NOTHING;
    PERFORM FROM worker_locks l WHERE l.worker_id = '(control run)' FOR UPDATE;
END
$$;

-- flag_silent_workers: mark workers that have said nothing for p_silent_s as stale. Returns their ids.
CREATE OR REPLACE FUNCTION validation.flag_silent_workers(p_silent_s integer) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE worker_validators w
    SET status = 'stale'
    WHERE w.status IN ('online', 'draining') AND w.last_heartbeat_at < now() - make_interval(secs => p_silent_s)
    RETURNING w.worker_id;
$$;

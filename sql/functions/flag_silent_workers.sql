-- flag_silent_workers: mark workers that have said nothing for p_silent_s as stale, and those that have said nothing for
-- a day as offline: their machine is gone without goodbye, and nobody waits for it. Returns the ids of those that fell
-- silent now.
CREATE OR REPLACE FUNCTION validation.flag_silent_workers(p_silent_s integer) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE worker_validators w
    SET status = 'offline', current_video_id = NULL
    WHERE w.status <> 'offline' AND w.last_heartbeat_at < now() - interval '1 day';

    UPDATE worker_validators w
    SET status = 'stale'
    WHERE w.status IN ('online', 'draining') AND w.last_heartbeat_at < now() - make_interval(secs => p_silent_s)
    RETURNING w.worker_id;
$$;

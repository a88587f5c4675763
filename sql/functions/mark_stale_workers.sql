-- mark_stale_workers: mark workers that have said nothing for p_timeout_s as stale, and those that have said nothing for
-- a day as offline: their machine is gone without goodbye, and nobody waits for it. Returns the ids of those that fell
-- silent now.
-- SKIP LOCKED: whoever writes a row at this moment lives, or has vanished amid a call; neither keeps the others.
CREATE OR REPLACE FUNCTION validation.mark_stale_workers(p_timeout_s integer) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE worker_validators w
    SET status = 'offline', current_video_id = NULL
    WHERE w.worker_id IN (
        SELECT s.worker_id
        FROM worker_validators s
        WHERE s.status <> 'offline' AND s.last_heartbeat_at < now() - interval '1 day'
        FOR NO KEY UPDATE SKIP LOCKED);

    UPDATE worker_validators w
    SET status = 'stale'
    WHERE w.worker_id IN (
        SELECT s.worker_id
        FROM worker_validators s
        WHERE s.status IN ('online', 'draining') AND s.last_heartbeat_at < now() - make_interval(secs => p_timeout_s)
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING w.worker_id;
$$;

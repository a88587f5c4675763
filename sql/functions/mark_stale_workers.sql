-- mark_stale_workers: mark workers without a heartbeat for p_timeout_s as stale, and those without one for a day as
-- offline, so that a box that vanished raises no alert for ever. Returns the ids of the newly stale workers.
-- SKIP LOCKED: a row that is locked belongs to a worker that is calling now, or to one that vanished during a call; it
-- must not delay the others.
CREATE OR REPLACE FUNCTION validation.mark_stale_workers(p_timeout_s integer) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE public.worker_validators w
    SET status = 'offline', current_video_id = NULL
    WHERE w.worker_id IN (
        SELECT s.worker_id
        FROM public.worker_validators s
        WHERE s.status <> 'offline' AND s.last_heartbeat_at < now() - interval '1 day'
        FOR NO KEY UPDATE SKIP LOCKED);

    UPDATE public.worker_validators w
    SET status = 'stale'
    WHERE w.worker_id IN (
        SELECT s.worker_id
        FROM public.worker_validators s
        WHERE s.status IN ('online', 'draining') AND s.last_heartbeat_at < now() - make_interval(secs => p_timeout_s)
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING w.worker_id;
$$;

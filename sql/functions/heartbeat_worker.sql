-- heartbeat_worker: a sign of life. Keeps what it is not told; a worker that drains stays draining.
-- A worker names its instance (see require_instance); a chunk's own heartbeat needs none, its token says enough.
-- Raises VF008 to a worker that is distrusted: it gets no work and may as well end. What it holds it loses by itself.
CREATE OR REPLACE FUNCTION validation.heartbeat_worker(
    p_worker        text,
    p_current_video text DEFAULT NULL,
    p_last_error    text DEFAULT NULL,
    p_instance      text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM require_instance(p_worker, p_instance);
    IF p_instance IS NOT NULL THEN
        PERFORM require_trust(p_worker);
    END IF;
    UPDATE worker_validators w
    SET status            = CASE WHEN w.status = 'draining' THEN w.status ELSE 'online' END,
        last_heartbeat_at = now(),
        current_video_id  = coalesce(left(p_current_video, 200), w.current_video_id),
        last_error        = coalesce(left(p_last_error, 2000), w.last_error)
    WHERE w.worker_id = p_worker;
END
$$;

-- heartbeat_worker: a sign of life. Keeps what it is not told; a worker that drains stays draining.
-- A worker names its instance (see check_instance). A chunk's own beat names none: it says what is in hand, and is no
-- sign of life of the worker, which may hang while its flow processes go on.
-- heard_since begins anew after a gap of half a lease (see worker_outlived_run).
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
    PERFORM check_instance(p_worker, p_instance);
    IF p_instance IS NOT NULL THEN
        PERFORM check_not_quarantined(p_worker);
        UPDATE worker_validators w
        SET status            = CASE WHEN w.status = 'draining' THEN w.status ELSE 'online' END,
            heard_since       = CASE WHEN w.last_heartbeat_at < now() - make_interval(
                                              secs => coalesce((w.config_json -> 'budgets' ->> 'lease_s')::real, 75) / 2)
                                     THEN now() ELSE w.heard_since END,
            last_heartbeat_at = now()
        WHERE w.worker_id = p_worker;
    END IF;
    UPDATE worker_validators w
    SET current_video_id  = coalesce(left(p_current_video, 200), w.current_video_id),
        last_error        = coalesce(left(p_last_error, 2000), w.last_error)
    WHERE w.worker_id = p_worker AND coalesce(p_current_video, p_last_error) IS NOT NULL;
END
$$;

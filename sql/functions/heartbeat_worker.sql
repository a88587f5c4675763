-- heartbeat_worker: record that a worker is alive. Parameters that are null change nothing; a draining worker stays
-- draining.
-- Only a call with p_instance counts as a heartbeat (see check_instance). renew_chunk and commit_chunk call without it:
-- a flow process may work on while its worker process hangs.
-- heard_since restarts after a gap of half a lease (see worker_outlived_run).
-- Raises VF008 for a quarantined worker, which gets no more work; its open chunks expire by themselves.
CREATE OR REPLACE FUNCTION validation.heartbeat_worker(
    p_worker        text,
    p_current_video text DEFAULT NULL,
    p_last_error    text DEFAULT NULL,
    p_instance      text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM check_instance(p_worker, p_instance);
    IF p_instance IS NOT NULL THEN
        PERFORM check_not_quarantined(p_worker);
        UPDATE public.worker_validators w
        SET status            = CASE WHEN w.status = 'draining' THEN w.status ELSE 'online' END,
            heard_since       = CASE WHEN w.last_heartbeat_at < now() - make_interval(
                                          secs => coalesce((w.config_json -> 'budgets' ->> 'lease_s')::real, 75) / 2)
                                     THEN now() ELSE w.heard_since END,
            last_heartbeat_at = now()
        WHERE w.worker_id = p_worker;
    END IF;
    UPDATE public.worker_validators w
    SET current_video_id  = coalesce(left(p_current_video, 200), w.current_video_id),
        last_error        = coalesce(left(p_last_error, 2000), w.last_error)
    WHERE w.worker_id = p_worker AND coalesce(p_current_video, p_last_error) IS NOT NULL;
END
$$;

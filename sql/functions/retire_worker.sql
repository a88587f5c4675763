-- retire_worker: mark a worker offline and release its open chunks; no video loses an attempt. Returns how many chunks.
CREATE OR REPLACE FUNCTION validation.retire_worker(p_worker text, p_instance text DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_chunk    uuid;
    v_released integer := 0;
BEGIN
    PERFORM check_instance(p_worker, p_instance);
    FOR v_chunk IN
        SELECT c.chunk_id FROM public.validation_chunks c
        WHERE c.worker_id = p_worker AND c.state = 'open'
        FOR NO KEY UPDATE
    LOOP
        PERFORM release_chunk(v_chunk, 'worker retired');
        v_released := v_released + 1;
    END LOOP;
    UPDATE public.worker_validators w
    SET status = 'offline', current_video_id = NULL, last_heartbeat_at = now()
    WHERE w.worker_id = p_worker;
    RETURN v_released;
END
$$;

-- check_chunk_limit: one worker holds at most 16 open chunks, so that a compromised box cannot claim the whole queue.
-- A worker with default settings holds two. Raises VF006.
CREATE OR REPLACE FUNCTION validation.check_chunk_limit(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    IF NOT pg_has_role(session_user, 'validation_control', 'member')
       AND (SELECT count(*) FROM public.validation_chunks c
            WHERE c.worker_id = p_worker AND c.state = 'open') >= 16 THEN
        RAISE EXCEPTION 'worker % holds 16 open chunks, the limit per worker', p_worker USING ERRCODE = 'VF006';
    END IF;
END
$$;

-- check_chunk_limit: one box holds at most 16 open chunks, so that a box in wrong hands cannot empty the queue into its own.
-- A worker at its usual limit holds two. Raises VF006.
CREATE OR REPLACE FUNCTION validation.check_chunk_limit(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
BEGIN
    IF NOT pg_has_role(session_user, 'validation_control', 'member')
       AND (SELECT count(*) FROM validation_chunks c WHERE c.worker_id = p_worker AND c.state = 'open') >= 16 THEN
        RAISE EXCEPTION 'worker % holds 16 open chunks: it gets no more', p_worker USING ERRCODE = 'VF006';
    END IF;
END
$$;

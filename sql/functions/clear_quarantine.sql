-- clear_quarantine: lift the quarantine of a worker, or of the rented box with that label: its wrong canaries until now
-- no longer count. Returns how many canaries those were.
CREATE OR REPLACE FUNCTION validation.clear_quarantine(p_worker text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_cleared integer;
BEGIN
    UPDATE canary_evaluations e SET cleared_at = now()
    FROM public.validation_chunks c
    WHERE c.chunk_id = e.chunk_id AND p_worker IN (c.worker_id, c.instance_label)
      AND e.outcome = 'wrong' AND e.cleared_at IS NULL;
    GET DIAGNOSTICS v_cleared = ROW_COUNT;
    RETURN v_cleared;
END
$$;

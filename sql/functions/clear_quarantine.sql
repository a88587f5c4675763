-- clear_quarantine: hold nothing that was wrong until now against a worker, or against the rented machine of that label.
-- Returns how many canaries that were.
CREATE OR REPLACE FUNCTION validation.clear_quarantine(p_worker text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_pardoned integer;
BEGIN
    UPDATE canary_judgements j SET pardoned_at = now()
    FROM validation_chunks c
    WHERE c.chunk_id = j.chunk_id AND p_worker IN (c.worker_id, c.machine)
      AND j.outcome = 'wrong' AND j.pardoned_at IS NULL;
    GET DIAGNOSTICS v_pardoned = ROW_COUNT;
    RETURN v_pardoned;
END
$$;

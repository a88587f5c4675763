-- clear_quarantine: lift the quarantine of a worker, or of the rented box with that label: its wrong canaries and
-- failures until now no longer count. Returns the number of cleared findings: wrong canaries, and quarantines for
-- failed videos.
CREATE OR REPLACE FUNCTION validation.clear_quarantine(p_worker text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_cleared integer;
    v_boxes   integer;
BEGIN
    UPDATE canary_evaluations e SET cleared_at = now()
    FROM public.validation_chunks c
    WHERE c.chunk_id = e.chunk_id AND p_worker IN (c.worker_id, c.instance_label)
      AND e.outcome = 'wrong' AND e.cleared_at IS NULL;
    GET DIAGNOSTICS v_cleared = ROW_COUNT;
    UPDATE box_quarantines b SET cleared_at = now()
    WHERE p_worker IN (b.worker_id, b.instance_label) AND b.cleared_at IS NULL;
    GET DIAGNOSTICS v_boxes = ROW_COUNT;
    RETURN v_cleared + v_boxes;
END
$$;

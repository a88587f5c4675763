-- check_not_quarantined: refuse work to a quarantined box (see quarantined_workers). Another box with the same worker
-- id is not refused. Raises VF008; the message is the worker id. It does not name the canary, which a box must not
-- learn.
CREATE OR REPLACE FUNCTION validation.check_not_quarantined(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    -- The first conditions read an index and a table that are nearly always empty, so a claim usually costs no more.
    IF (EXISTS (SELECT FROM canary_evaluations e WHERE e.outcome = 'wrong' AND e.cleared_at IS NULL)
        OR EXISTS (SELECT FROM box_quarantines b WHERE b.worker_id = p_worker AND b.cleared_at IS NULL))
       AND EXISTS (SELECT FROM quarantined_workers q
                   WHERE q.worker_id = p_worker AND q.is_current AND NOT q.is_excused) THEN
        RAISE EXCEPTION '%', p_worker USING ERRCODE = 'VF008';
    END IF;
END
$$;

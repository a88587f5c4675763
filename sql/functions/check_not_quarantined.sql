-- check_not_quarantined: give no work to a machine whose canary was wrong (see quarantined_workers). Another machine under the
-- same name is not meant. Raises VF008, naming the worker: which video it was is not for its ears.
CREATE OR REPLACE FUNCTION validation.check_not_quarantined(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
BEGIN
    -- The first condition reads an index that is nearly always empty: a fleet beyond doubt pays nothing.
    IF EXISTS (SELECT FROM canary_judgements j WHERE j.outcome = 'wrong' AND j.pardoned_at IS NULL)
       AND EXISTS (SELECT FROM quarantined_workers d
                   WHERE d.worker_id = p_worker AND d.is_present AND NOT d.is_excused) THEN
        RAISE EXCEPTION '%', p_worker USING ERRCODE = 'VF008';
    END IF;
END
$$;

-- check_instance: let one instance of a worker speak of its row, and no other take it over meanwhile.
-- A box that was silent for long may have been succeeded under its id; whatever it says then is not about the worker
-- that lives now. Raises VF004, naming the instance that has the row, and VF007 if the caller is another box (see
-- check_box_key). NULL: the caller speaks of the row, whoever has it.
CREATE OR REPLACE FUNCTION validation.check_instance(p_worker text, p_instance text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
DECLARE
    v_holder text;
BEGIN
    PERFORM check_box_key(p_worker);
    IF p_instance IS NULL THEN
        RETURN;
    END IF;
    PERFORM lock_worker(p_worker);  -- register_worker takes it too
    SELECT w.config_json ->> 'instance' INTO v_holder FROM worker_validators w WHERE w.worker_id = p_worker;
    IF FOUND AND v_holder <> p_instance THEN
        RAISE EXCEPTION '%', v_holder USING ERRCODE = 'VF004';
    END IF;
END
$$;

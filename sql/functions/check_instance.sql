-- check_instance: refuse a process whose worker row was taken over by another instance, and lock the worker id until
-- the transaction ends, so that no other instance takes the row over meanwhile. A box without heartbeats may have been
-- replaced under its worker id; its later calls must not change the row of its successor. p_instance null: the caller
-- does not name its instance, and only its key is checked. Raises VF004, with the instance that has the row as message;
-- VF007 if the caller is another box (see check_box_key).
CREATE OR REPLACE FUNCTION validation.check_instance(p_worker text, p_instance text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_holder text;
BEGIN
    PERFORM check_box_key(p_worker);
    IF p_instance IS NULL THEN
        RETURN;
    END IF;
    PERFORM lock_worker(p_worker);  -- register_worker takes it too
    SELECT w.config_json ->> 'instance' INTO v_holder FROM public.worker_validators w WHERE w.worker_id = p_worker;
    IF FOUND AND v_holder <> p_instance THEN
        RAISE EXCEPTION '%', v_holder USING ERRCODE = 'VF004';
    END IF;
END
$$;

-- check_box_key: let a machine speak in its own name, and in no other.
-- All boxes share one login, since a pooler keeps a pool of connections for each; so the login does not tell who asks.
-- The key does, which the caller's transaction carries in vfleet.box_key. It ends with the machine's rental. The control
-- plane needs none. Until a first key is issued any name will do; then the door is closed for every box.
-- Raises VF007, naming the worker.
CREATE OR REPLACE FUNCTION validation.check_box_key(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
BEGIN
    IF pg_has_role(session_user, 'validation_control', 'member') OR NOT EXISTS (SELECT FROM box_keys) THEN
        RETURN;
    ELSIF NOT EXISTS (
        SELECT FROM box_keys k
        LEFT JOIN fleet_instances i ON i.label = k.label
        WHERE k.worker_id = p_worker
          AND k.key_sha256 = sha256(convert_to(current_setting('vfleet.box_key', true), 'UTF8'))
          AND (k.label IS NULL OR i.state NOT IN ('destroyed', 'gone'))
    ) THEN
        RAISE EXCEPTION '%', p_worker USING ERRCODE = 'VF007';
    END IF;
END
$$;

-- check_box_key: refuse a caller whose box key is not the key of p_worker.
-- All boxes share one login, because a pooler keeps one pool of connections per login, so the login does not identify
-- the box. The box key does: the caller's transaction carries it in the setting vfleet.box_key. A key is valid until
-- its rental ends. The control plane needs no key. Until the first key is issued every caller is accepted; from then on
-- each box needs one.
-- Raises VF007; the message is the worker id.
CREATE OR REPLACE FUNCTION validation.check_box_key(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    IF pg_has_role(session_user, 'validation_control', 'member') OR NOT EXISTS (SELECT FROM box_keys) THEN
        RETURN;
    ELSIF NOT EXISTS (
        SELECT FROM box_keys k
        LEFT JOIN public.fleet_instances i ON i.label = k.label
        WHERE k.worker_id = p_worker
          AND k.key_sha256 = sha256(convert_to(current_setting('vfleet.box_key', true), 'UTF8'))
          AND (k.label IS NULL OR i.state NOT IN ('destroyed', 'gone'))
    ) THEN
        RAISE EXCEPTION '%', p_worker USING ERRCODE = 'VF007';
    END IF;
END
$$;

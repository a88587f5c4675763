-- get_credential: the credential that was issued to a box for one store; no row if there is none or it expired.
-- expires_in_s is a duration because the box's clock may be wrong. Raises VF007 for any caller but the box itself.
CREATE OR REPLACE FUNCTION validation.get_credential(p_worker text, p_store text)
RETURNS TABLE (access_key_id text, secret_access_key text, session_token text, expires_in_s real)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
#variable_conflict use_column
BEGIN
    PERFORM check_box_key(p_worker);
    RETURN QUERY
    SELECT c.access_key_id, c.secret_access_key, c.session_token, extract(epoch FROM c.expires_at - now())::real
    FROM issued_credentials c
    WHERE c.worker_id = p_worker AND c.store = p_store AND c.expires_at > now();
END
$$;

-- store_credential: keep a temporary credential of one store for a worker's box, in place of the earlier one.
-- Does nothing for a worker without a key: no box could fetch the credential.
CREATE OR REPLACE FUNCTION validation.store_credential(
    p_worker            text,
    p_store             text,
    p_access_key_id     text,
    p_secret_access_key text,
    p_session_token     text,
    p_ttl_s           integer
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    INSERT INTO issued_credentials
    SELECT k.worker_id, p_store, p_access_key_id, p_secret_access_key, p_session_token,
           now(), now() + make_interval(secs => p_ttl_s)
    FROM box_keys k WHERE k.worker_id = p_worker
    ON CONFLICT (worker_id, store) DO UPDATE
    SET access_key_id     = excluded.access_key_id,
        secret_access_key = excluded.secret_access_key,
        session_token     = excluded.session_token,
        issued_at         = excluded.issued_at,
        expires_at        = excluded.expires_at;
$$;

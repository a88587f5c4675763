-- store_credential: keep a credential of one store for the box of this worker, in place of the one before.
-- Nothing is kept for a worker without a key: there is nobody to lend to.
CREATE OR REPLACE FUNCTION validation.store_credential(
    p_worker            text,
    p_store             text,
    p_access_key_id     text,
    p_secret_access_key text,
    p_session_token     text,
    p_lasts_s           integer
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    INSERT INTO lent_credentials
    SELECT k.worker_id, p_store, p_access_key_id, p_secret_access_key, p_session_token,
           now(), now() + make_interval(secs => p_lasts_s)
    FROM box_keys k WHERE k.worker_id = p_worker
    ON CONFLICT (worker_id, store) DO UPDATE
    SET access_key_id     = excluded.access_key_id,
        secret_access_key = excluded.secret_access_key,
        session_token     = excluded.session_token,
        lent_at           = excluded.lent_at,
        expires_at        = excluded.expires_at;
$$;

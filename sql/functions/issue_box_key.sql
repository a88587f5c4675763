-- issue_box_key: let only the holder of this key use a worker id. The earlier key of the worker id and the credentials
-- issued to it are deleted at once.
-- p_label: the rented box, with whose rental the key ends; null for a box outside the fleet.
CREATE OR REPLACE FUNCTION validation.issue_box_key(p_worker text, p_label text, p_key_sha256 bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    DELETE FROM box_keys k WHERE k.worker_id = p_worker;
    INSERT INTO box_keys (worker_id, label, key_sha256) VALUES (p_worker, p_label, p_key_sha256);
$$;

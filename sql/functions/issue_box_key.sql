-- issue_box_key: give a worker id to one machine: from now on its name is used with this key or not at all. Whoever had the
-- name before is shut out at once, and what was lent to it is forgotten.
-- p_label: the rented machine, with whose end the key ends; null for one that nobody rented.
CREATE OR REPLACE FUNCTION validation.issue_box_key(p_worker text, p_label text, p_key_sha256 bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    DELETE FROM box_keys k WHERE k.worker_id = p_worker;
    INSERT INTO box_keys (worker_id, label, key_sha256) VALUES (p_worker, p_label, p_key_sha256);
$$;

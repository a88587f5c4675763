-- box_owner: the owner of a box: the vendor's host of a rented box (`host 123`), else the worker id of the box. Boxes
-- of one owner count as one witness. Null for a worker without a box key: without any key the ledger trusts every box,
-- and with keys only the control plane works without one.
CREATE OR REPLACE FUNCTION validation.box_owner(p_worker text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT coalesce('host ' || i.host_id, k.worker_id)
    FROM box_keys k LEFT JOIN public.fleet_instances i ON i.label = k.label
    WHERE k.worker_id = p_worker;
$$;

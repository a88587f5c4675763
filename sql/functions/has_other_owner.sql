-- has_other_owner: whether a box of another owner is online, which could be a second witness.
CREATE OR REPLACE FUNCTION validation.has_other_owner(p_owner text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM public.worker_validators w
        WHERE w.status = 'online' AND w.last_heartbeat_at > now() - interval '60 seconds'
          AND box_owner(w.worker_id) <> p_owner);
$$;

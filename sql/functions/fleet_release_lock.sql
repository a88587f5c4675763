-- fleet_release_lock: release the reconciler's lock, so that the next one starts at once.
CREATE OR REPLACE FUNCTION validation.fleet_release_lock(p_fleet text, p_holder uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE public.fleets f SET lock_holder = NULL, lock_expires_at = NULL
    WHERE f.fleet = p_fleet AND f.lock_holder = p_holder;
END
$$;

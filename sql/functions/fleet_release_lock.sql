-- fleet_release_lock: let the next reconciler begin at once.
CREATE OR REPLACE FUNCTION validation.fleet_release_lock(p_fleet text, p_holder uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE fleets f SET turn_holder = NULL, turn_ends_at = NULL WHERE f.fleet = p_fleet AND f.turn_holder = p_holder;
END
$$;

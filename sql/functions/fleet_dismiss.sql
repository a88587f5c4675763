-- fleet_dismiss: want no machines any more; caps and order stay. Returns whether there is such a fleet.
CREATE OR REPLACE FUNCTION validation.fleet_dismiss(p_fleet text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE fleets f SET machines = 0, changed_at = fleet_now() WHERE f.fleet = p_fleet;
    RETURN FOUND;
END
$$;

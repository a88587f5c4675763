-- fleet_scale_to_zero: want no machines any more; caps and order stay. p_abandon: nor let them finish what they hold.
-- A fleet once abandoned stays so until it is wanted again: a gentler wish does not take it back.
-- Returns whether there is such a fleet.
CREATE OR REPLACE FUNCTION validation.fleet_scale_to_zero(p_fleet text, p_abandon boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE fleets f SET machines = 0, abandoned = f.abandoned OR p_abandon, changed_at = fleet_now()
    WHERE f.fleet = p_fleet;
    RETURN FOUND;
END
$$;

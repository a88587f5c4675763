-- fleet_scale_to_zero: order zero boxes. The caps and the launch specification stay. p_abandon: the boxes are destroyed
-- without draining. An abandoned fleet stays abandoned until fleet_set_target. Returns whether the fleet exists.
CREATE OR REPLACE FUNCTION validation.fleet_scale_to_zero(p_fleet text, p_abandon boolean DEFAULT false) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE public.fleets f SET machines = 0, abandoned = f.abandoned OR p_abandon, changed_at = fleet_now()
    WHERE f.fleet = p_fleet;
    RETURN FOUND;
END
$$;

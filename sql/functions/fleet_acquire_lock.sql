-- fleet_acquire_lock: become the one reconciler that may rent for this fleet, for p_lease_s seconds, or keep on being it.
-- False while another holds the turn. A holder that died loses it by the clock.
CREATE OR REPLACE FUNCTION validation.fleet_acquire_lock(p_fleet text, p_holder uuid, p_lease_s integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE fleets f
    SET turn_holder = p_holder, turn_ends_at = fleet_now() + make_interval(secs => p_lease_s)
    WHERE f.fleet = p_fleet
      AND (f.turn_holder IS NULL OR f.turn_holder = p_holder OR f.turn_ends_at <= fleet_now());
    RETURN FOUND;
END
$$;

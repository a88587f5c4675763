-- fleet_acquire_lock: acquire the reconciler's lock of a fleet for p_lease_s seconds, or extend it. Only the holder may
-- rent for the fleet. Returns false while another reconciler holds the lock. The lock of a dead holder expires.
CREATE OR REPLACE FUNCTION validation.fleet_acquire_lock(p_fleet text, p_holder uuid, p_lease_s integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE public.fleets f
    SET lock_holder = p_holder, lock_expires_at = fleet_now() + make_interval(secs => p_lease_s)
    WHERE f.fleet = p_fleet
      AND (f.lock_holder IS NULL OR f.lock_holder = p_holder OR f.lock_expires_at <= fleet_now());
    RETURN FOUND;
END
$$;

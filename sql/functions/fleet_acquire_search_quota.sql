-- fleet_acquire_search_quota: whether offers may be searched now; counts the search if so.
-- A Vast account may read 20,000 rows per day, and a search reads 64. The first hundred searches of a day (UTC) may be
-- two minutes apart, so that a fleet grows fast; the later ones are eight minutes apart.
CREATE OR REPLACE FUNCTION validation.fleet_acquire_search_quota(p_fleet text, p_holder uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_today timestamptz := date_trunc('day', fleet_now(), 'UTC');
BEGIN
    UPDATE public.fleets f
    SET searches_today = CASE WHEN f.searched_at >= v_today THEN f.searches_today + 1 ELSE 1 END,
        searched_at    = fleet_now()
    WHERE f.fleet = p_fleet AND f.lock_holder = p_holder
      AND (f.searched_at IS NULL OR f.searched_at <= fleet_now()
           - CASE WHEN f.searches_today < 100 OR f.searched_at < v_today THEN interval '115 seconds'
                  ELSE interval '8 minutes' END);
    RETURN FOUND;
END
$$;

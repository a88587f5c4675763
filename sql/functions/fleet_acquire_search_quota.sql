-- fleet_acquire_search_quota: may the market be asked now? Counts the search if so.
-- An account may read 20,000 rows a day, 64 a search. The first hundred searches of a day (UTC) may follow each other
-- after two minutes, so that a fleet grows fast; the others are spread over the day, eight minutes apart.
CREATE OR REPLACE FUNCTION validation.fleet_acquire_search_quota(p_fleet text, p_holder uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_today timestamptz := date_trunc('day', fleet_now(), 'UTC');
BEGIN
    UPDATE fleets f
    SET searches_today = CASE WHEN f.searched_at >= v_today THEN f.searches_today + 1 ELSE 1 END,
        searched_at    = fleet_now()
    WHERE f.fleet = p_fleet AND f.turn_holder = p_holder
      AND (f.searched_at IS NULL OR f.searched_at <= fleet_now()
           - CASE WHEN f.searches_today < 100 OR f.searched_at < v_today THEN interval '115 seconds'  -- a tick comes early
                  ELSE interval '8 minutes' END);
    RETURN FOUND;
END
$$;

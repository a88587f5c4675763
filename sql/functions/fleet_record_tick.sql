-- fleet_record_tick: keep what a tick of the fleet said: why fewer boxes run than are ordered, and what failed.
CREATE OR REPLACE FUNCTION validation.fleet_record_tick(p_fleet text, p_sentences text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE public.fleets f SET last_tick_at = fleet_now(), last_tick = p_sentences WHERE f.fleet = p_fleet;
$$;

-- fleet_record_tick: store the sentences of the fleet's last tick: why fewer boxes run than are ordered, and which
-- actions failed.
CREATE OR REPLACE FUNCTION validation.fleet_record_tick(p_fleet text, p_sentences text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE public.fleets f SET last_tick_at = fleet_now(), last_tick = p_sentences WHERE f.fleet = p_fleet;
$$;

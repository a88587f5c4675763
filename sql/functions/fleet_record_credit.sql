-- fleet_record_credit: record the account's credit beside the fleet's recorded spend. Drops readings older than 7 days.
CREATE OR REPLACE FUNCTION validation.fleet_record_credit(p_fleet text, p_credit_usd numeric) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    DELETE FROM public.fleet_credit_readings r WHERE r.fleet = p_fleet AND r.read_at < fleet_now() - interval '7 days';
    INSERT INTO public.fleet_credit_readings (fleet, read_at, credit_usd, spent_usd)
    VALUES (p_fleet, fleet_now(), p_credit_usd, fleet_spend(p_fleet))
    ON CONFLICT DO NOTHING;
END
$$;

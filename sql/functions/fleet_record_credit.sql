-- fleet_record_credit: note what the account has left, beside what our books say is spent. Old readings are dropped.
CREATE OR REPLACE FUNCTION validation.fleet_record_credit(p_fleet text, p_credit_usd numeric) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    DELETE FROM fleet_credit_readings r WHERE r.fleet = p_fleet AND r.read_at < fleet_now() - interval '7 days';
    INSERT INTO fleet_credit_readings (fleet, read_at, credit_usd, spent_usd)
    VALUES (p_fleet, fleet_now(), p_credit_usd, fleet_spend(p_fleet))
    ON CONFLICT DO NOTHING;
END
$$;

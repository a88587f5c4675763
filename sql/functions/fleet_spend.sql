-- fleet_spend: dollars that a fleet has cost by now, an upper bound: every machine counts at its full price from the
-- request on until it is known to bill no more. What turned out never to have been rented cost nothing.
CREATE OR REPLACE FUNCTION validation.fleet_spend(p_fleet text) RETURNS numeric
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(i.usd_once + i.usd_per_hour
                            * extract(epoch FROM coalesce(i.billed_until, fleet_now()) - i.requested_at) / 3600), 0)
        FROM fleet_instances i
        WHERE i.fleet = p_fleet AND (i.state <> 'gone' OR i.instance_id IS NOT NULL)
    );
END
$$;

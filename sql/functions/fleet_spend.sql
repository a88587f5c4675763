-- fleet_spend: US dollars that a fleet has cost until now, an upper bound: each box counts at its full price from its
-- request until it is known to be billed no more. A box that turned out never to have been rented costs nothing.
CREATE OR REPLACE FUNCTION validation.fleet_spend(p_fleet text) RETURNS numeric
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(i.usd_once + i.usd_per_hour
                            * extract(epoch FROM coalesce(i.billed_until, fleet_now()) - i.requested_at) / 3600), 0)
        FROM public.fleet_instances i
        WHERE i.fleet = p_fleet AND (i.state <> 'gone' OR i.instance_id IS NOT NULL)
    );
END
$$;

-- fleet_set_target: enter what the operator wants of a fleet. Nothing is rented or dismissed by it: the next tick does that.
-- The first time, it draws the label that sets this fleet's machines apart from everybody else's.
CREATE OR REPLACE FUNCTION validation.fleet_set_target(
    p_fleet            text,
    p_machines         integer,
    p_max_usd_per_hour numeric,
    p_max_usd          numeric,
    p_order            jsonb
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    INSERT INTO fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, changed_at)
    VALUES (p_fleet, format('vfleet/%s-%s/', p_fleet, left(gen_random_uuid()::text, 8)),
            p_machines, p_max_usd_per_hour, p_max_usd, p_order, fleet_now())
    ON CONFLICT (fleet) DO UPDATE
    SET machines         = excluded.machines,
        abandoned        = false,
        max_usd_per_hour = excluded.max_usd_per_hour,
        max_usd          = excluded.max_usd,
        order_json       = excluded.order_json,
        changed_at       = excluded.changed_at;
END
$$;

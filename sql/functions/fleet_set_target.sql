-- fleet_set_target: record an operator's order: the number of boxes, the caps and the launch specification (p_order).
-- The next tick acts on it. The first order of a fleet draws its label prefix, which no other fleet has.
CREATE OR REPLACE FUNCTION validation.fleet_set_target(
    p_fleet            text,
    p_machines         integer,
    p_max_usd_per_hour numeric,
    p_max_usd          numeric,
    p_order            jsonb
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    INSERT INTO public.fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, changed_at)
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

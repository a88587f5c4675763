-- fleet_request: record that one box is about to be rented, before the request that rents it. Returns null if it was
-- recorded, else the reason why it may not be rented. The fleet's caps are enforced here, whatever the caller planned:
-- every box counts that is not known to be gone, including those whose request has an unknown outcome.
CREATE OR REPLACE FUNCTION validation.fleet_request(
    p_fleet  text,
    p_holder uuid,
    p_label  text,
    p_slot   integer,
    p_offer  jsonb   -- offer_id, machine_id, host_id, gpu_name, usd_per_hour, usd_once, boot_timeout_s
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_fleet    public.fleets;
    v_offer    record;
    v_boxes integer;
    v_per_hour numeric;
    v_spent    numeric;
BEGIN
    SELECT * INTO v_fleet FROM public.fleets f WHERE f.fleet = p_fleet FOR NO KEY UPDATE;  -- one request at a time
    IF v_fleet.lock_holder IS DISTINCT FROM p_holder OR v_fleet.lock_expires_at <= fleet_now() THEN
        RETURN 'another reconciler holds the lock';
    END IF;
    IF NOT starts_with(p_label, v_fleet.label_prefix) THEN
        RETURN format('label %s does not begin with %s', p_label, v_fleet.label_prefix);
    END IF;
    SELECT * INTO v_offer FROM jsonb_to_record(p_offer) AS o(
        offer_id bigint, machine_id bigint, host_id bigint, gpu_name text, usd_per_hour numeric, usd_once numeric,
        boot_timeout_s integer);
    SELECT count(*) FILTER (WHERE i.state <> 'destroyed'), coalesce(sum(i.usd_per_hour), 0) INTO v_boxes, v_per_hour
    FROM public.fleet_instances i WHERE i.fleet = p_fleet AND i.state <> 'gone';
    v_spent := fleet_spend(p_fleet);
    IF v_boxes >= v_fleet.machines THEN
        RETURN format('the fleet has %s boxes, of %s ordered', v_boxes, v_fleet.machines);
    ELSIF v_per_hour + v_offer.usd_per_hour > v_fleet.max_usd_per_hour THEN
        RETURN format('the fleet would cost $%s per hour with it, above its cap of $%s',
                      round(v_per_hour + v_offer.usd_per_hour, 4), v_fleet.max_usd_per_hour);
    ELSIF v_spent + v_offer.usd_once >= v_fleet.max_usd THEN
        RETURN format('$%s of the budget of $%s is spent', round(v_spent, 2), v_fleet.max_usd);
    ELSIF EXISTS (SELECT FROM public.fleet_instances i
                  WHERE i.fleet = p_fleet AND i.slot = p_slot AND i.state <> 'gone') THEN
        RETURN format('slot %s has a box', p_slot);
    ELSIF EXISTS (SELECT FROM public.fleet_instances i
                  WHERE i.offer_id = v_offer.offer_id AND i.state <> 'gone') THEN
        RETURN format('offer %s is rented already', v_offer.offer_id);
    END IF;
    INSERT INTO public.fleet_instances (label, fleet, slot, worker_id, offer_id, machine_id, host_id, gpu_name,
                                 usd_per_hour, usd_once, boot_timeout_s, requested_at, changed_at)
    VALUES (p_label, p_fleet, p_slot, 'val-' || p_slot, v_offer.offer_id, v_offer.machine_id, v_offer.host_id,
            v_offer.gpu_name, v_offer.usd_per_hour, v_offer.usd_once, v_offer.boot_timeout_s, fleet_now(), fleet_now());
    RETURN NULL;
END
$$;

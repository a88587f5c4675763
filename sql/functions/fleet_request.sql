-- fleet_request: enter the intent to rent one machine, before the request that rents it. Returns null if entered, else
-- the sentence why not: then nothing may be rented. This is where the caps hold, whoever calls and whatever it planned:
-- all that is not known to be gone counts, unknown outcomes too.
CREATE OR REPLACE FUNCTION validation.fleet_request(
    p_fleet  text,
    p_holder uuid,
    p_label  text,
    p_slot   integer,
    p_offer  jsonb   -- offer_id, machine_id, host_id, gpu_name, usd_per_hour, usd_once, boot_within_s
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_fleet    fleets;
    v_offer    record;
    v_machines integer;
    v_per_hour numeric;
    v_spent    numeric;
BEGIN
    SELECT * INTO v_fleet FROM fleets f WHERE f.fleet = p_fleet FOR NO KEY UPDATE;  -- one request at a time
    IF v_fleet.turn_holder IS DISTINCT FROM p_holder OR v_fleet.turn_ends_at <= fleet_now() THEN
        RETURN 'another reconciler has the turn';
    END IF;
    IF NOT starts_with(p_label, v_fleet.label_prefix) THEN
        RETURN format('label %s does not begin with %s', p_label, v_fleet.label_prefix);
    END IF;
    SELECT * INTO v_offer FROM jsonb_to_record(p_offer) AS o(
        offer_id bigint, machine_id bigint, host_id bigint, gpu_name text, usd_per_hour numeric, usd_once numeric,
        boot_within_s integer);
    SELECT count(*) FILTER (WHERE i.state <> 'destroyed'), coalesce(sum(i.usd_per_hour), 0) INTO v_machines, v_per_hour
    FROM fleet_instances i WHERE i.fleet = p_fleet AND i.state <> 'gone';
    v_spent := fleet_spend(p_fleet);
    IF v_machines >= v_fleet.machines THEN
        RETURN format('%s machines are there or on their way, and %s are wanted', v_machines, v_fleet.machines);
    ELSIF v_per_hour + v_offer.usd_per_hour > v_fleet.max_usd_per_hour THEN
        RETURN format('with it the fleet would cost $%s an hour, above its cap of $%s',
                      round(v_per_hour + v_offer.usd_per_hour, 4), v_fleet.max_usd_per_hour);
    ELSIF v_spent + v_offer.usd_once >= v_fleet.max_usd THEN
        RETURN format('$%s are spent, of a budget of $%s', round(v_spent, 2), v_fleet.max_usd);
    ELSIF EXISTS (SELECT FROM fleet_instances i WHERE i.fleet = p_fleet AND i.slot = p_slot AND i.state <> 'gone') THEN
        RETURN format('slot %s has a machine', p_slot);
    ELSIF EXISTS (SELECT FROM fleet_instances i
                  WHERE i.offer_id = v_offer.offer_id AND i.state <> 'gone') THEN
        RETURN format('offer %s is rented already', v_offer.offer_id);
    END IF;
    INSERT INTO fleet_instances (label, fleet, slot, worker_id, offer_id, machine_id, host_id, gpu_name,
                                 usd_per_hour, usd_once, boot_within_s, requested_at, changed_at)
    VALUES (p_label, p_fleet, p_slot, 'val-' || p_slot, v_offer.offer_id, v_offer.machine_id, v_offer.host_id,
            v_offer.gpu_name, v_offer.usd_per_hour, v_offer.usd_once, v_offer.boot_within_s, fleet_now(), fleet_now());
    RETURN NULL;
END
$$;

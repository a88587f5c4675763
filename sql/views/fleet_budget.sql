-- fleet_budget: one row per fleet: what is ordered, what it costs per hour, what is spent, what is left to do, and the
-- sentences of its last tick. boxes counts the boxes that are requested, renting, working or draining.
CREATE OR REPLACE VIEW validation.fleet_budget AS
SELECT f.fleet, validation.fleet_now() AS now, f.label_prefix, f.machines, f.max_usd_per_hour, f.max_usd, f.order_json,
       coalesce(i.usd_per_hour, 0)     AS usd_per_hour,
       validation.fleet_spend(f.fleet) AS spent_usd,
       (SELECT count(*) FROM public.video_queue q
         WHERE q.status = 'done' AND q.validation_status = 'pending'
           AND (q.validation_witness IS NULL OR validation.has_other_owner(q.validation_witness))) AS videos_waiting,
       (SELECT count(*) FROM public.validation_chunks c WHERE c.state = 'open')       AS chunks_open,
       f.abandoned, f.last_tick_at, f.last_tick,
       coalesce(i.boxes, 0) AS boxes
FROM public.fleets f
LEFT JOIN (
    SELECT fleet, sum(usd_per_hour) AS usd_per_hour,
           count(*) FILTER (WHERE state IN ('requested', 'renting', 'working', 'draining')) AS boxes
    FROM public.fleet_instances WHERE state <> 'gone' GROUP BY fleet
) i USING (fleet)
ORDER BY f.fleet;

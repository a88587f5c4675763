-- cost_so_far: one row: US dollars spent on rented boxes, dollars per hour now, and dollars per thousand hours of
-- validated audio (see chunk_tallies). Null if no box was ever rented. An upper bound, as fleet_spend is; audio that no
-- chunk counted is left out.
CREATE OR REPLACE VIEW validation.cost_so_far AS
SELECT spent.usd                                        AS spent_usd,
       spent.usd_per_hour,
       validated.audio_s / 3600                         AS audio_hours,
       spent.usd / nullif(validated.audio_s / 3600 / 1000, 0) AS usd_per_1000_audio_hours
FROM (
    SELECT sum(validation.fleet_spend(f.fleet)) AS usd, sum(b.usd_per_hour) AS usd_per_hour
    FROM public.fleets f
    JOIN (
        SELECT fleet, coalesce(sum(usd_per_hour) FILTER (WHERE state <> 'gone'), 0) AS usd_per_hour
        FROM public.fleet_instances
        GROUP BY fleet
    ) b USING (fleet)
) spent CROSS JOIN (
    SELECT sum(audio_s)::numeric AS audio_s FROM validation.chunk_tallies
) validated;

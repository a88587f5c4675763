-- cost_so_far: one row: dollars spent on rented machines, dollars an hour now, and dollars a thousand hours of audio
-- that stand validated (see chunk_tallies). Null where nothing was ever rented. An upper bound, as fleet_spend is; audio
-- that nobody counted is left out.
CREATE OR REPLACE VIEW validation.cost_so_far AS
SELECT spent.usd                                        AS spent_usd,
       spent.usd_per_hour,
       heard.audio_s / 3600                             AS audio_hours,
       spent.usd / nullif(heard.audio_s / 3600 / 1000, 0) AS usd_per_1000_audio_hours
FROM (
    SELECT sum(validation.fleet_spend(f.fleet)) AS usd, sum(b.usd_per_hour) AS usd_per_hour
    FROM fleets f
    JOIN (
        SELECT fleet, coalesce(sum(usd_per_hour) FILTER (WHERE state <> 'gone'), 0) AS usd_per_hour
        FROM fleet_instances
        GROUP BY fleet
    ) b USING (fleet)
) spent CROSS JOIN (
    SELECT sum(audio_s)::numeric AS audio_s FROM validation.chunk_tallies
) heard;

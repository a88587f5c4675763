-- distrusted_workers: machines with a wrong canary that nobody pardoned, each with its first finding.
-- A machine is known by its rental's label, or by its worker's name where nobody rented it; `known_as` is what requeue
-- and pardon take. is_present: it is this machine that bears the name now.
-- is_excused: three machines or more, and over three in ten of all that were judged, are wrong. Then it is the canaries
-- that are wrong, or the tolerances, and nobody is distrusted: else one bad planting would stop the fleet.
CREATE OR REPLACE VIEW validation.distrusted_workers AS
WITH judged AS (
    SELECT c.worker_id, c.machine, count(*) AS judged,
           count(*)         FILTER (WHERE j.outcome = 'wrong' AND j.pardoned_at IS NULL) AS wrong,
           min(j.judged_at) FILTER (WHERE j.outcome = 'wrong' AND j.pardoned_at IS NULL) AS since,
           (array_agg(j.video_id || ': ' || j.finding ORDER BY j.judged_at, j.video_id)
                            FILTER (WHERE j.outcome = 'wrong' AND j.pardoned_at IS NULL))[1] AS finding
    FROM validation.canary_judgements j
    JOIN validation_chunks c USING (chunk_id)
    WHERE j.outcome <> 'moot'
    GROUP BY c.worker_id, c.machine
), weighed AS (
    SELECT j.*, count(*) FILTER (WHERE wrong > 0) OVER () AS accused, count(*) OVER () AS machines
    FROM judged j
)
SELECT w.worker_id, w.machine, coalesce(w.machine, w.worker_id) AS known_as, w.judged, w.wrong, w.since, w.finding,
       k.label IS NOT DISTINCT FROM w.machine                  AS is_present,
       w.accused >= 3 AND w.accused > 0.3 * w.machines         AS is_excused
FROM weighed w
LEFT JOIN validation.box_keys k USING (worker_id)
WHERE w.wrong > 0
ORDER BY w.since;

-- quarantined_workers: machines with a wrong canary that nobody pardoned, each with its first finding.
-- A machine is known by its rental's label, or by its worker's name where nobody rented it; `known_as` is what requeue
-- and pardon take. is_present: it is this machine that bears the name now.
-- is_excused: three machines or more, and over three in ten of all that were judged within a day of its first wrong
-- canary, are wrong. Then it is the canaries that are wrong, or the tolerances, and nobody is distrusted: else one bad
-- planting would stop the fleet. Machines of other days count for nothing: they may have had other canaries and images.
CREATE OR REPLACE VIEW validation.quarantined_workers AS
WITH said AS (
    SELECT c.worker_id, c.machine, j.video_id, j.finding, j.judged_at,
           j.outcome = 'wrong' AND j.pardoned_at IS NULL AS is_wrong
    FROM validation.canary_judgements j
    JOIN validation_chunks c USING (chunk_id)
    WHERE j.outcome <> 'moot'
), accused AS (
    SELECT worker_id, machine, count(*) AS judged,
           count(*)       FILTER (WHERE is_wrong) AS wrong,
           min(judged_at) FILTER (WHERE is_wrong) AS since,
           (array_agg(video_id || ': ' || finding ORDER BY judged_at, video_id) FILTER (WHERE is_wrong))[1] AS finding
    FROM said
    GROUP BY worker_id, machine
    HAVING bool_or(is_wrong)
)
SELECT a.worker_id, a.machine, coalesce(a.machine, a.worker_id) AS known_as, a.judged, a.wrong, a.since, a.finding,
       k.label IS NOT DISTINCT FROM a.machine                  AS is_present,
       peers.wrong >= 3 AND peers.wrong > 0.3 * peers.machines AS is_excused
FROM accused a
LEFT JOIN validation.box_keys k USING (worker_id)
CROSS JOIN LATERAL (
    SELECT count(DISTINCT (s.worker_id, s.machine))                         AS machines,
           count(DISTINCT (s.worker_id, s.machine)) FILTER (WHERE is_wrong) AS wrong
    FROM said s
    WHERE s.judged_at BETWEEN a.since - interval '1 day' AND a.since + interval '1 day'
) peers
ORDER BY a.since;

-- quarantined_workers: boxes with a wrong canary that was not cleared, and boxes that failed what others do not (see
-- check_failures), each with its first finding.
-- A box is known by the label of its rental, or by its worker id outside the fleet; `known_as` is what `vfleet requeue`
-- and `vfleet canaries clear` take. is_current: this box has the worker id now.
-- is_excused: three boxes or more, and over 30 % of all that were evaluated within a day of its first wrong canary, are
-- wrong. Then the canaries or the tolerances are wrong, and no box is quarantined: one bad set of canaries would
-- otherwise stop the fleet. Boxes of other days do not count: they may have had other canaries and images.
CREATE OR REPLACE VIEW validation.quarantined_workers AS
WITH evaluated AS (
    SELECT c.worker_id, c.instance_label, e.video_id, e.finding, e.evaluated_at,
           e.outcome = 'wrong' AND e.cleared_at IS NULL AS is_wrong
    FROM validation.canary_evaluations e
    JOIN public.validation_chunks c USING (chunk_id)
    WHERE e.outcome <> 'inconclusive'
), suspected AS (
    SELECT worker_id, instance_label, count(*) AS evaluated,
           count(*)       FILTER (WHERE is_wrong) AS wrong,
           min(evaluated_at) FILTER (WHERE is_wrong) AS since,
           (array_agg(video_id || ': ' || finding ORDER BY evaluated_at, video_id)
                          FILTER (WHERE is_wrong))[1] AS finding
    FROM evaluated
    GROUP BY worker_id, instance_label
    HAVING bool_or(is_wrong)
), found AS (
SELECT a.worker_id, a.instance_label, coalesce(a.instance_label, a.worker_id) AS known_as, a.evaluated, a.wrong,
       a.since, a.finding,
       k.label IS NOT DISTINCT FROM a.instance_label           AS is_current,
       peers.wrong >= 3 AND peers.wrong > 0.3 * peers.boxes AS is_excused
FROM suspected a
LEFT JOIN validation.box_keys k USING (worker_id)
CROSS JOIN LATERAL (
    SELECT count(DISTINCT (s.worker_id, s.instance_label))                         AS boxes,
           count(DISTINCT (s.worker_id, s.instance_label)) FILTER (WHERE is_wrong) AS wrong
    FROM evaluated s
    WHERE s.evaluated_at BETWEEN a.since - interval '1 day' AND a.since + interval '1 day'
) peers
UNION ALL
SELECT b.worker_id, b.instance_label, coalesce(b.instance_label, b.worker_id), 0, 0, b.since, b.finding,
       k.label IS NOT DISTINCT FROM b.instance_label, false
FROM validation.box_quarantines b
LEFT JOIN validation.box_keys k USING (worker_id)
WHERE b.cleared_at IS NULL
), each AS (
    SELECT DISTINCT ON (worker_id, instance_label) *
    FROM found
    ORDER BY worker_id, instance_label, is_excused, since
)
SELECT * FROM each ORDER BY since;

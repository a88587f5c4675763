-- quarantined_shards: the shards that quarantined boxes wrote, with the videos that are still current and were not
-- requeued, also if another box has added models to them since.
-- OFFSET 0 makes the planner start at the few boxes: it might otherwise sort out all results first.
CREATE OR REPLACE VIEW validation.quarantined_shards AS
SELECT w.known_as, w.worker_id, r.shard_key, r.committed_at, count(*) AS videos, sum(r.segments) AS segments
FROM validation.quarantined_workers w
CROSS JOIN LATERAL (
    SELECT * FROM validation.current_results
    WHERE worker_id = w.worker_id AND instance_label IS NOT DISTINCT FROM w.instance_label
    OFFSET 0
) r
JOIN public.video_queue q ON q.video_id = r.video_id AND q.validation_status = 'validated'
WHERE NOT w.is_excused
GROUP BY w.known_as, w.worker_id, r.shard_key, r.committed_at
ORDER BY w.known_as, r.shard_key;

-- quarantined_shards: the shards that distrusted machines wrote, with what of them is still read, by itself or below what
-- another machine added to it, and was not taken back.
-- OFFSET 0 binds the planner to go from the few machines outwards: it might otherwise sort out the results of all first.
CREATE OR REPLACE VIEW validation.quarantined_shards AS
SELECT d.known_as, d.worker_id, r.shard_key, r.committed_at, count(*) AS videos, sum(r.segments) AS segments
FROM validation.quarantined_workers d
CROSS JOIN LATERAL (
    SELECT * FROM validation.current_results
    WHERE worker_id = d.worker_id AND machine IS NOT DISTINCT FROM d.machine
    OFFSET 0
) r
JOIN video_queue q ON q.video_id = r.video_id AND q.validation_status = 'validated'
WHERE NOT d.is_excused
GROUP BY d.known_as, d.worker_id, r.shard_key, r.committed_at
ORDER BY d.known_as, r.shard_key;

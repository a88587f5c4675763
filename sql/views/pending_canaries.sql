-- pending_canaries: canaries that stand in a committed shard, or failed in a committed chunk, and were not held against
-- their answers yet, also if it stands in a newer shard by now: each machine answers for what it wrote itself. What is not
-- comparable was answered by other models than the right answers; `basis` is what else these depend on.
-- OFFSET 0 binds the planner to go from the few canaries outwards, along indexes: it might otherwise read the whole
-- queue every half minute. Without any canary it costs nothing.
CREATE OR REPLACE VIEW validation.pending_canaries AS
SELECT n.video_id, found.chunk_id, found.worker_id, found.shard_key, found.shard_sha256, found.error, n.answers,
       found.suite IS NOT DISTINCT FROM n.suite AND found.models IS NOT DISTINCT FROM n.models AS is_comparable,
       n.basis
FROM validation.canaries n
CROSS JOIN LATERAL (
    (SELECT c.chunk_id, c.worker_id, s.shard_key, s.shard_sha256, NULL AS error, s.suite, s.models
     FROM validation_results r
     JOIN validation_shards s ON s.shard_key = r.shard_key AND s.deleted_at IS NULL
     JOIN validation_chunks c ON c.chunk_id = s.chunk_id
     WHERE r.video_id = n.video_id
     OFFSET 0)
    UNION ALL
    (SELECT c.chunk_id, c.worker_id, NULL, NULL, q.validation_error, NULL, NULL
     FROM video_queue q
     JOIN validation_chunks c ON c.chunk_id = q.validation_chunk AND c.state = 'committed'
     WHERE q.video_id = n.video_id AND q.validation_status = 'validation_failed'
     OFFSET 0)
) found
WHERE NOT EXISTS (SELECT FROM validation.canary_judgements j
                  WHERE j.video_id = n.video_id AND j.chunk_id = found.chunk_id)
ORDER BY found.shard_key, n.video_id;

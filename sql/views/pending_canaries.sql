-- pending_canaries: canaries that a committed chunk validated or failed and that were not evaluated in this chunk yet.
-- A canary stays here if a newer shard has it too: each box is evaluated on what it wrote itself. is_comparable: the
-- same revisions of the same models gave both answers; `basis` is what else the answers depend on.
-- OFFSET 0 makes the planner start at the few canaries and follow indexes: it might otherwise read the whole queue
-- every half minute. Without any canary the view costs nothing.
CREATE OR REPLACE VIEW validation.pending_canaries AS
SELECT n.video_id, found.chunk_id, found.worker_id, found.shard_key, found.shard_sha256, found.error, n.answers,
       found.suite IS NOT DISTINCT FROM n.suite AND found.models IS NOT DISTINCT FROM n.models AS is_comparable,
       n.basis
FROM validation.canaries n
CROSS JOIN LATERAL (
    (SELECT c.chunk_id, c.worker_id, s.shard_key, s.shard_sha256, NULL AS error, s.suite, s.models
     FROM public.validation_results r
     JOIN public.validation_shards s ON s.shard_key = r.shard_key AND s.deleted_at IS NULL
     JOIN public.validation_chunks c ON c.chunk_id = s.chunk_id
     WHERE r.video_id = n.video_id
     OFFSET 0)
    UNION ALL
    (SELECT c.chunk_id, c.worker_id, NULL, NULL, q.validation_error, NULL, NULL
     FROM public.video_queue q
     JOIN public.validation_chunks c ON c.chunk_id = q.validation_chunk AND c.state = 'committed'
     WHERE q.video_id = n.video_id AND q.validation_status = 'validation_failed'
     OFFSET 0)
) found
WHERE NOT EXISTS (SELECT FROM validation.canary_evaluations e
                  WHERE e.video_id = n.video_id AND e.chunk_id = found.chunk_id)
ORDER BY found.shard_key, n.video_id;

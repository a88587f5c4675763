-- canary_results: one row per canary and chunk that committed it, with the outcome; one row without an outcome for a
-- canary that no chunk committed yet.
CREATE OR REPLACE VIEW validation.canary_results AS
SELECT n.video_id, n.suite, n.inserted_at, jsonb_array_length(n.answers) AS segments, c.worker_id, c.instance_label,
       e.outcome, e.finding, e.evaluated_at, e.cleared_at
FROM validation.canaries n
LEFT JOIN validation.canary_evaluations e USING (video_id)
LEFT JOIN public.validation_chunks c            USING (chunk_id)
ORDER BY e.evaluated_at, n.video_id;

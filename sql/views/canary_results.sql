-- canary_results: every canary, and what became of it in each chunk that had it. One row with no outcome as long as
-- nothing did.
CREATE OR REPLACE VIEW validation.canary_results AS
SELECT n.video_id, n.suite, n.planted_at, jsonb_array_length(n.answers) AS segments, c.worker_id, c.machine,
       j.outcome, j.finding, j.judged_at, j.pardoned_at
FROM validation.canaries n
LEFT JOIN validation.canary_judgements j USING (video_id)
LEFT JOIN validation_chunks c            USING (chunk_id)
ORDER BY j.judged_at, n.video_id;

-- recently_closed_chunks: chunks that their holder closed within the last minute. Their flow run may not have ended
-- yet.
CREATE OR REPLACE VIEW validation.recently_closed_chunks AS
SELECT c.chunk_id, c.worker_id, c.flow_run_id, c.closed_at
FROM public.validation_chunks c
WHERE c.state IN ('committed', 'released') AND c.closed_at > now() - interval '1 minute';

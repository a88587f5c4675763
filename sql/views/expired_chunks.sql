-- expired_chunks: chunks that were taken back within the last hour, by a sweep or a claim. Their flow runs are dead.
CREATE OR REPLACE VIEW validation.expired_chunks AS
SELECT c.chunk_id, c.worker_id, c.flow_run_id, c.closed_at
FROM public.validation_chunks c
WHERE c.state = 'expired' AND c.closed_at > now() - interval '1 hour';

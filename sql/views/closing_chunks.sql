-- closing_chunks: what its holder closed within the last minute. Its flow run has yet to tell that it ended.
CREATE OR REPLACE VIEW validation.closing_chunks AS
SELECT c.chunk_id, c.worker_id, c.flow_run_id, c.closed_at
FROM validation_chunks c
WHERE c.state IN ('committed', 'released') AND c.closed_at > now() - interval '1 minute';

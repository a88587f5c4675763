-- open_chunks: the chunks that are held now, by which worker, and how long their lease still lasts.
CREATE OR REPLACE VIEW validation.open_chunks AS
SELECT c.chunk_id, c.worker_id, c.shard_number, c.flow_run_id, c.suite, c.claimed_at, c.lease_expires_at,
       extract(epoch FROM now() - c.claimed_at)::real       AS held_s,
       extract(epoch FROM c.lease_expires_at - now())::real AS lease_left_s,
       c.videos_claimed, c.videos_validated, c.videos_failed, c.segments
FROM public.validation_chunks c
WHERE c.state = 'open'
ORDER BY c.claimed_at;

-- chunk_ends: how and when (Unix time) every closed chunk ended. One row per chunk.
SELECT c.chunk_id, c.state, c.close_reason, extract(epoch FROM c.closed_at)::double precision AS closed_at
FROM validation_chunks c
WHERE c.state <> 'open';

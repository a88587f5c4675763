-- chunk_ends: what became of every chunk that was closed, and when (Unix time). One row a chunk.
SELECT c.chunk_id, c.state, c.close_reason, extract(epoch FROM c.closed_at)::double precision AS closed_at
FROM validation_chunks c
WHERE c.state <> 'open';

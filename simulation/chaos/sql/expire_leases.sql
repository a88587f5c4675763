-- expire_leases: move the lease expiry of a worker's open chunks to one second ago. For chaos runs only.
-- Returns the chunks.
UPDATE validation_chunks c
SET lease_expires_at = now() - interval '1 second',
    renewed_at       = now() - interval '1 second' - (c.lease_expires_at - c.renewed_at)
WHERE c.worker_id = :worker AND c.state = 'open'
RETURNING c.chunk_id;

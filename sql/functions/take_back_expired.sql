-- take_back_expired: take back the chunks whose lease expired, before a claim. If no lease expired, it only reads the
-- open chunks. One claim at a time does it: taking a chunk back locks the row of its worker, and the claim then locks
-- the row of its own worker. Two claims that took chunks of each other's workers would wait for each other. The lock is
-- a row that no login reaches, and no advisory lock, because any login may take and keep an advisory lock.
CREATE OR REPLACE FUNCTION validation.take_back_expired() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM public.validation_chunks c WHERE c.state = 'open' AND c.lease_expires_at < now()) THEN
        RETURN;
    END IF;
    INSERT INTO worker_locks (worker_id) VALUES ('(expired leases)') ON CONFLICT DO NOTHING;
    PERFORM FROM worker_locks l WHERE l.worker_id = '(expired leases)' FOR UPDATE SKIP LOCKED;
    IF FOUND THEN
        PERFORM sweep_stale_claims('{}', '{}', 3);  -- crashes that fail a video: MAX_CRASHES of ledger/chunks.py
    END IF;
END
$$;

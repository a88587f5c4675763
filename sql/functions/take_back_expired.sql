-- take_back_expired: take back the chunks whose lease expired, before a claim. Without any it reads the open chunks once.
-- One claim at a time does it: each chunk locks the row of its worker, and the claim then locks its own worker's row, so
-- two claims that took chunks back from each other's workers would wait for each other.
CREATE OR REPLACE FUNCTION validation.take_back_expired() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM public.validation_chunks c WHERE c.state = 'open' AND c.lease_expires_at < now())
       AND pg_try_advisory_xact_lock(hashtext('validation.take_back_expired')) THEN
        PERFORM sweep_stale_claims('{}', '{}', 3);  -- crashes that fail a video: MAX_CRASHES of ledger/chunks.py
    END IF;
END
$$;

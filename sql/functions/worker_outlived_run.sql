-- worker_outlived_run: whether a worker lived on when the flow process of its chunk stopped renewing: its heartbeats
-- went on without a gap, past the time at which the next renewal was overdue. Then the process died by itself.
-- Half a lease, because heartbeats and renewals both come at least that often (Settings.heartbeat_s): when a box is
-- lost, or the ledger is unreachable, both stop within half a lease of each other.
CREATE OR REPLACE FUNCTION validation.worker_outlived_run(p_chunk public.validation_chunks) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM public.worker_validators w
        WHERE w.worker_id = p_chunk.worker_id AND w.status IN ('online', 'draining')
          AND greatest(w.heard_since, w.started_at) <= p_chunk.renewed_at
          AND w.last_heartbeat_at > p_chunk.renewed_at + (p_chunk.lease_expires_at - p_chunk.renewed_at) / 2);
$$;

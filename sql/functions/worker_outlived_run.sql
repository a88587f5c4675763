-- worker_outlived_run: whether a chunk's worker lived on when its flow process fell silent: its heartbeats went on without a
-- gap, past the moment at which the next renewal was overdue. Then the process died by itself.
-- Half a lease: heartbeats and renewals both come at least so often (Settings.heartbeat_s), so of a box that is lost,
-- and of a ledger that is away, neither is heard half a lease after the other.
CREATE OR REPLACE FUNCTION validation.worker_outlived_run(p_chunk validation_chunks) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    SELECT EXISTS (
        SELECT FROM worker_validators w
        WHERE w.worker_id = p_chunk.worker_id AND w.status IN ('online', 'draining')
          AND greatest(w.heard_since, w.started_at) <= p_chunk.renewed_at
          AND w.last_heartbeat_at > p_chunk.renewed_at + (p_chunk.lease_expires_at - p_chunk.renewed_at) / 2);
$$;

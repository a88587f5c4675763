-- sweep_stale_claims: take back every chunk whose holder is dead: its flow run is known to have ended
-- (p_ended_runs, as the orchestrator tells), or its lease ended unrenewed. Returns one row a chunk.
-- SKIP LOCKED: a chunk that is being committed or renewed at this moment is alive.
CREATE OR REPLACE FUNCTION validation.sweep_stale_claims(p_ended_runs uuid[], p_max_crashes integer)
RETURNS TABLE (chunk_id uuid, worker_id text, flow_run_id uuid, reason text, videos_returned integer, videos_failed integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    v_dead validation_chunks;
BEGIN
    FOR v_dead IN
        SELECT * FROM validation_chunks c
        WHERE c.state = 'open'
          AND (c.lease_expires_at < now() OR c.flow_run_id = ANY (p_ended_runs))
        ORDER BY c.worker_id
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        chunk_id    := v_dead.chunk_id;
        worker_id   := v_dead.worker_id;
        flow_run_id := v_dead.flow_run_id;
        reason      := CASE WHEN v_dead.flow_run_id = ANY (p_ended_runs) THEN 'flow run ended' ELSE 'lease expired' END;
        SELECT e.returned, e.failed INTO videos_returned, videos_failed
        FROM expire_chunk(v_dead, reason, p_max_crashes) e;
        RETURN NEXT;
    END LOOP;
END
$$;

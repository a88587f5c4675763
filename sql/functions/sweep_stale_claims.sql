-- sweep_stale_claims: take back every chunk whose holder is dead: its lease expired; or, sooner, its flow run ended
-- (p_ended_runs, p_ended_ago_s seconds ago, as Prefect reports), it was not renewed since, and its worker outlived it.
-- A chunk that is still renewed is held, whatever Prefect reports.
-- Returns one row per chunk.
-- SKIP LOCKED: a chunk that is being committed or renewed at this moment has a live holder.
-- Each chunk is taken back in a block of its own: one whose worker or videos a vanished box has locked is skipped after
-- half a second and does not delay the others.
CREATE OR REPLACE FUNCTION validation.sweep_stale_claims(
    p_ended_runs  uuid[],
    p_ended_ago_s double precision[],
    p_max_crashes integer
) RETURNS TABLE (
    chunk_id uuid, worker_id text, flow_run_id uuid, reason text, videos_returned integer, videos_failed integer
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '500ms'
AS $$
#variable_conflict use_column
DECLARE
    v_dead public.validation_chunks;
BEGIN
    FOR v_dead IN
        SELECT * FROM public.validation_chunks c
        WHERE c.state = 'open'
          AND (c.lease_expires_at < now()
               OR EXISTS (
                   SELECT FROM unnest(p_ended_runs, p_ended_ago_s) AS ended (run, ago_s)
                   WHERE ended.run = c.flow_run_id
                     -- The end has the time of the box's clock, which may be wrong by 10 s.
                     AND c.renewed_at < now() - make_interval(secs => ended.ago_s) + interval '10 seconds')
                  AND worker_outlived_run(c))
        ORDER BY c.worker_id
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        BEGIN
            chunk_id    := v_dead.chunk_id;
            worker_id   := v_dead.worker_id;
            flow_run_id := v_dead.flow_run_id;
            reason      := CASE WHEN v_dead.lease_expires_at < now() THEN 'lease expired' ELSE 'flow run ended' END;
            SELECT e.returned, e.failed INTO videos_returned, videos_failed
            FROM expire_chunk(v_dead, reason, p_max_crashes) e;
            RETURN NEXT;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
END
$$;

-- claim_chunk: open the chunk p_chunk with up to p_size pending videos for a worker.
-- Returns one row per video, none if no video can be claimed now. `models` is the same in each row: the models that the
-- chunk asks; null means all of the suite, which holds as soon as one of its videos needs the whole suite. `crashes` is
-- how often a flow process died under the video.
-- The caller draws p_chunk, the token of the claim: a claim whose answer was lost is repeated with the same token and
-- returns the same videos. A draining worker gets no new chunk.
-- A flow run holds one chunk of a worker at a time: a second claim raises VF009. Of two workers that name the same flow
-- run the ledger refuses neither, because it cannot tell which of them Prefect gave the run to, and a refusal would let
-- a box block runs that it knows the id of. The control plane asks Prefect instead.
-- Expired leases are taken back first, so a lost box's videos are claimable as soon as a box asks for work.
-- Raises VF003 for a worker that never registered, VF006 at the limit of open chunks, for a second claim in one
-- transaction and where check_allowance refuses, VF007 for another box's worker id, VF008 for a quarantined worker.
CREATE OR REPLACE FUNCTION validation.claim_chunk(
    p_chunk     uuid,
    p_worker    text,
    p_flow_run  uuid,
    p_size      integer,
    p_languages text[],
    p_lease_s   integer,
    p_suite     text
) RETURNS TABLE (
    shard_number integer, video_id text, language text, segment_count integer, crashes smallint, models text[]
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
    SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_start  bigint := floor(random() * 4294967296)::bigint - 2147483648;  -- anywhere in hashtext's range
    v_ids    text[];
    v_number integer;
    v_status text;
    v_owner  text := box_owner(p_worker);
BEGIN
    PERFORM check_box_key(p_worker);
    p_size    := least(p_size, 1000);
    p_lease_s := greatest(least(p_lease_s, 3600), 10);  -- a shorter lease would expire between two heartbeats
    PERFORM take_back_expired();
    -- Only here is the worker's row locked first: nothing below waits for a lock.
    SELECT w.status INTO v_status FROM public.worker_validators w WHERE w.worker_id = p_worker FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'worker % is not registered', p_worker USING ERRCODE = 'VF003';
    END IF;

    IF NOT EXISTS (SELECT FROM public.validation_chunks c WHERE c.chunk_id = p_chunk) THEN
        PERFORM check_not_quarantined(p_worker);
        IF v_status = 'draining' THEN
            RETURN;
        END IF;
        PERFORM check_chunk_limit(p_worker);
        IF v_owner IS NOT NULL AND NOT pg_has_role(session_user, 'validation_control', 'member') THEN
            p_size := least(p_size, check_allowance(p_worker));
        END IF;
        -- now() is the start of the transaction: one that claims, releases and claims again would keep every lock.
        IF EXISTS (SELECT FROM public.validation_chunks c WHERE c.worker_id = p_worker AND c.claimed_at = now()) THEN
            RAISE EXCEPTION 'worker % has claimed in this transaction', p_worker USING ERRCODE = 'VF006';
        END IF;
        IF EXISTS (SELECT FROM public.validation_chunks c
                   WHERE c.worker_id = p_worker AND c.flow_run_id = p_flow_run AND c.state = 'open') THEN
            RAISE EXCEPTION 'flow run % holds another chunk of this worker', p_flow_run USING ERRCODE = 'VF009';
        END IF;
        v_ids := pick_crash_suspects(p_size, p_languages, v_owner);
        IF cardinality(v_ids) = 0 THEN
            v_ids := pick_pending(p_size, v_start, 2147483648, p_languages, v_owner);
            v_ids := v_ids || pick_pending(p_size - cardinality(v_ids), -2147483648, v_start, p_languages, v_owner);
        END IF;
        IF cardinality(v_ids) = 0 THEN
            RETURN;
        END IF;
        SELECT coalesce(max(c.shard_number), 0) + 1 INTO v_number
        FROM public.validation_chunks c WHERE c.worker_id = p_worker;
        INSERT INTO public.validation_chunks
               (chunk_id, worker_id, shard_number, flow_run_id, suite, lease_expires_at, videos_claimed, instance_label)
        VALUES (p_chunk, p_worker, v_number, p_flow_run, left(p_suite, 200), now() + make_interval(secs => p_lease_s),
                cardinality(v_ids), (SELECT k.label FROM box_keys k WHERE k.worker_id = p_worker));
        UPDATE public.video_queue q
        SET validation_status   = 'validating',
            validation_chunk    = p_chunk,
            validation_attempts = q.validation_attempts + 1,
            claimed_by          = p_worker,
            claimed_at          = now()
        WHERE q.video_id = ANY (v_ids);
        UPDATE public.worker_validators w SET status = 'online', last_heartbeat_at = now()
        WHERE w.worker_id = p_worker;
        PERFORM update_worker_counters(p_worker);
    END IF;

    RETURN QUERY
    WITH held AS (
        SELECT c.shard_number, q.video_id, q.language, q.segment_count, q.validation_crashes, q.validation_models
        FROM public.validation_chunks c
        JOIN public.video_queue q ON q.validation_chunk = c.chunk_id AND q.validation_status = 'validating'
        WHERE c.chunk_id = p_chunk AND c.worker_id = p_worker AND c.state = 'open'
    )
    SELECT h.shard_number, h.video_id, h.language, h.segment_count, h.validation_crashes,
           CASE WHEN (SELECT bool_and(validation_models IS NOT NULL) FROM held)
                THEN (SELECT array_agg(DISTINCT m ORDER BY m) FROM held, unnest(held.validation_models) m) END
    FROM held h
    ORDER BY h.video_id;
END
$$;

-- commit_chunk: close an open chunk for good, all or nothing.
-- p_shard: {key, sha256, size_bytes, suite, models: {model: revision}}, optionally {audio_s, verdicts: {accept, review,
-- reject}}; null if no video was validated.
-- p_validated: [{video_id, segments}]; p_failed: [{video_id, error, transient, charged}].
-- Videos of the chunk that are in neither list go back to the queue without losing an attempt. A failure with
-- charged: false goes back with its error and a back-off, without losing an attempt. A charged transient failure goes
-- back with a back-off of p_backoff_s, doubled per attempt, until p_max_attempts attempts ended in one. The ledger caps
-- what the caller asks for: 10 attempts, a first back-off of one hour, a last one of one day. Otherwise a box could
-- postpone a video for years.
-- A final failure that a box with a key reports needs a second witness: the video stays in the queue for the boxes of
-- other owners (see box_owner), and fails when one of them fails it too, or settle_failure confirms it.
-- Without sequential scans: until the first ANALYZE the planner takes each table for a few pages.
-- Raises VF001 if the chunk is not open; VF002 if a named video is not in the chunk, or p_shard's key is not the one
-- that belongs to the chunk: a box could otherwise take another chunk's key, or make the control plane delete any
-- object. A commit whose answer was lost may be repeated: the same shard gives the same answer.
CREATE OR REPLACE FUNCTION validation.commit_chunk(
    p_chunk        uuid,
    p_shard        jsonb,
    p_validated    jsonb,
    p_failed       jsonb,
    p_max_attempts integer,
    p_backoff_s    integer
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
    SET enable_seqscan = off
AS $$
DECLARE
    v_old      public.validation_chunks;
    v_segments integer;
    v_validated  integer;
    v_failed integer;
    v_owner text;
BEGIN
    IF p_shard IS NOT NULL THEN
        PERFORM check_json('shard', p_shard, '{"key": "text", "sha256": "text", "size_bytes": "positive",
            "suite": "text", "models": {"*": "text"}, "audio_s": "number?"}');
        IF jsonb_typeof(p_shard -> 'verdicts') <> 'null' THEN
            PERFORM check_json('shard.verdicts', p_shard -> 'verdicts',
                               '{"accept": "count", "review": "count", "reject": "count"}');
        END IF;
    END IF;
    PERFORM check_json('validated', p_validated, '[{"video_id": "text", "segments": "positive"}]');
    PERFORM check_json('failed', p_failed,
                       '[{"video_id": "text", "error": "text", "transient": "boolean", "charged": "boolean?"}]');
    SELECT * INTO v_old FROM public.validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM public.validation_chunks c
                   WHERE c.chunk_id = p_chunk AND c.state = 'committed'
                     AND c.shard_sha256 IS NOT DISTINCT FROM p_shard ->> 'sha256') THEN
            RETURN;
        END IF;
        PERFORM raise_claim_lost(p_chunk);
    END IF;
    IF p_shard IS NOT NULL AND p_shard ->> 'key' IS DISTINCT FROM shard_key_of(v_old) THEN
        RAISE EXCEPTION 'chunk %: the key of its shard is %, not %',
            p_chunk, shard_key_of(v_old), left(p_shard ->> 'key', 200) USING ERRCODE = 'VF002';
    END IF;
    IF octet_length((p_shard -> 'models')::text) > 16384 OR (p_shard ->> 'audio_s')::double precision
           > 360000 * jsonb_array_length(p_validated)::double precision THEN  -- 100 hours per video
        RAISE EXCEPTION 'chunk %: the size or the audio length of its shard is out of range', p_chunk
            USING ERRCODE = 'VF002';
    END IF;
    p_max_attempts := least(greatest(p_max_attempts, 1), 10);
    p_backoff_s    := least(greatest(p_backoff_s, 0), 3600);
    SELECT coalesce(sum(check_segment_counts(v.segments, 1)), 0) INTO v_segments
    FROM jsonb_to_recordset(p_validated) v (segments bigint);

    UPDATE public.video_queue q
    SET validation_status   = 'validated',
        validated_at        = now(),
        validation_segments = v.segments,
        validation_error    = NULL,
        validation_witness  = NULL
    FROM jsonb_to_recordset(p_validated) v (video_id text, segments integer)
    WHERE q.video_id = v.video_id AND q.validation_chunk = p_chunk AND q.validation_status = 'validating';
    GET DIAGNOSTICS v_validated = ROW_COUNT;

    v_owner := box_owner(v_old.worker_id);
    WITH reported AS MATERIALIZED (
        SELECT held.video_id, left(f ->> 'error', 2000) AS error, held.validation_attempts AS attempts,
               coalesce((f ->> 'charged')::boolean, true) AS charged,
               NOT coalesce((f ->> 'charged')::boolean, true)
               OR (f ->> 'transient')::boolean AND held.validation_attempts < p_max_attempts AS again,
               coalesce(held.validation_witness, v_owner) = v_owner AS lacks_witness  -- null without box keys
        FROM jsonb_array_elements(p_failed) f
        JOIN public.video_queue held ON held.video_id = f ->> 'video_id'
        WHERE held.validation_chunk = p_chunk AND held.validation_status = 'validating'
    ), logged AS (
        INSERT INTO box_decisions (worker_id, instance_label, owner, chunk_id, video_id, kind, cost)
        SELECT v_old.worker_id, v_old.instance_label, v_owner, p_chunk, r.video_id,
               CASE WHEN r.again THEN 'postponed' ELSE 'failed' END, r.charged::integer
        FROM reported r
    )
    UPDATE public.video_queue q
    SET validation_status     = CASE WHEN retry.stays THEN 'pending' ELSE 'validation_failed' END,
        validation_attempts   = q.validation_attempts - CASE WHEN retry.charged THEN 0 ELSE 1 END,
        validation_chunk      = CASE WHEN retry.stays THEN NULL ELSE p_chunk END,
        claimed_by            = CASE WHEN retry.stays THEN NULL ELSE q.claimed_by END,
        validation_not_before = CASE WHEN retry.again
                                     THEN now() + make_interval(
                                         secs => least(p_backoff_s * 2 ^ least(retry.attempts - 1, 20), 86400))
                                     ELSE q.validation_not_before END,
        validation_witness    = CASE WHEN retry.again THEN q.validation_witness
                                     ELSE coalesce(q.validation_witness, v_owner) END,
        validation_error      = retry.error
    FROM (SELECT r.*, r.again OR coalesce(r.lacks_witness, false) AS stays FROM reported r) retry
    WHERE q.video_id = retry.video_id;
    GET DIAGNOSTICS v_failed = ROW_COUNT;

    IF v_validated <> jsonb_array_length(p_validated) OR v_failed <> jsonb_array_length(p_failed) THEN
        RAISE EXCEPTION 'chunk %: a committed video is not in the chunk, or is named twice', p_chunk
            USING ERRCODE = 'VF002';
    END IF;

    UPDATE public.validation_chunks c
    SET state             = 'committed',
        closed_at         = now(),
        videos_validated  = v_validated,
        videos_failed     = v_failed,
        segments          = v_segments,
        segments_per_s    = 0,
        shard_key         = p_shard ->> 'key',
        shard_sha256      = p_shard ->> 'sha256',
        shard_bytes       = (p_shard ->> 'size_bytes')::bigint,
        audio_s           = (p_shard ->> 'audio_s')::double precision,
        segments_accepted = (p_shard -> 'verdicts' ->> 'accept')::integer,
        segments_review   = (p_shard -> 'verdicts' ->> 'review')::integer,
        segments_rejected = (p_shard -> 'verdicts' ->> 'reject')::integer
    WHERE c.chunk_id = p_chunk;

    IF p_shard IS NOT NULL THEN
        PERFORM record_shard(p_shard, p_chunk, p_validated);
    END IF;
    PERFORM return_videos(p_chunk);
    PERFORM heartbeat_worker(v_old.worker_id);
    PERFORM update_worker_counters(
        v_old.worker_id,
        v_validated  - v_old.videos_validated,
        v_failed - v_old.videos_failed,
        v_segments - v_old.segments,
        CASE WHEN p_shard IS NULL THEN 0 ELSE 1 END,
        coalesce((p_shard ->> 'size_bytes')::bigint, 0));
    IF v_owner IS NOT NULL AND v_failed > 0 THEN
        PERFORM check_failures(v_old.worker_id);
    END IF;
END
$$;

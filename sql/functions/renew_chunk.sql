-- renew_chunk: extend the lease of an open chunk and copy its progress. Writes one row per chunk, never one per video.
-- A rate is limited to 0 .. 1,000,000 segments per second and never NaN (which Postgres sorts above all numbers): one
-- such value would spoil every sum that it enters.
-- Returns when the lease expires. Raises VF001 if the chunk is not open or not this worker's.
CREATE OR REPLACE FUNCTION validation.renew_chunk(
    p_chunk    uuid,
    p_worker   text,
    p_lease_s  integer,
    p_progress jsonb
) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_old public.validation_chunks;
    v_new public.validation_chunks;
BEGIN
    PERFORM check_json('progress', p_progress, '{"current_video_id": "text?", "videos_validated": "count",
        "videos_failed": "count", "segments": "count", "last_error": "text?"}');
    SELECT * INTO v_old FROM public.validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.worker_id = p_worker AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM raise_claim_lost(p_chunk);
    END IF;

    UPDATE public.validation_chunks c
    SET lease_expires_at = now() + make_interval(secs => greatest(least(p_lease_s, 3600), 10)),
        videos_validated = (p_progress ->> 'videos_validated')::integer,
        videos_failed    = (p_progress ->> 'videos_failed')::integer,
        segments         = check_segment_counts((p_progress ->> 'segments')::bigint, c.videos_claimed),
        segments_per_s   = greatest(least(coalesce((p_progress ->> 'segments_per_s')::real, 0), 1e6), 0),
        renewed_at       = now()
    WHERE c.chunk_id = p_chunk
    RETURNING * INTO v_new;

    PERFORM heartbeat_worker(p_worker, p_progress ->> 'current_video_id', p_progress ->> 'last_error');
    PERFORM update_worker_counters(
        p_worker,
        v_new.videos_validated - v_old.videos_validated,
        v_new.videos_failed    - v_old.videos_failed,
        v_new.segments         - v_old.segments);
    RETURN v_new.lease_expires_at;
END
$$;

-- restore_shard: record a chunk's shard that is in the bucket and not in this ledger, as the commit recorded it in the
-- ledger of which this one is an older copy. The caller has verified the shard against its manifest. p_shard: as in
-- record_shard; p_videos: [{video_id, segments}].
-- Pending and failed videos become validated. A video that has a current result of the same suite and revision keeps
-- it, and its rows in this shard are superseded. Returns how many videos became validated. Raises VF010 if one of the
-- videos is not in the queue (the shard belongs to another ledger) or is in an open chunk, if the chunk of the shard is
-- open or has another shard, or if the worker is quarantined.
CREATE OR REPLACE FUNCTION validation.restore_shard(
    p_shard  jsonb,
    p_chunk  uuid,
    p_worker text,
    p_number integer,
    p_videos jsonb
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_old       public.validation_chunks;
    v_new       public.validation_shards;
    v_video     text;
    v_videos    integer := jsonb_array_length(p_videos);
    v_segments  integer;
    v_validated integer;
BEGIN
    SELECT v ->> 'video_id' INTO v_video
    FROM jsonb_array_elements(p_videos) v LEFT JOIN public.video_queue q ON q.video_id = v ->> 'video_id'
    WHERE q.video_id IS NULL
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'video % is not in the queue', v_video USING ERRCODE = 'VF010';
    END IF;
    SELECT q.video_id INTO v_video
    FROM jsonb_array_elements(p_videos) v JOIN public.video_queue q ON q.video_id = v ->> 'video_id'
    WHERE q.validation_status = 'validating'
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'video % is in an open chunk', v_video USING ERRCODE = 'VF010';
    END IF;
    IF EXISTS (SELECT FROM quarantined_workers w WHERE w.worker_id = p_worker AND NOT w.is_excused) THEN
        RAISE EXCEPTION 'worker % is quarantined', p_worker USING ERRCODE = 'VF010';
    END IF;
    SELECT * INTO v_old FROM public.validation_chunks c WHERE c.chunk_id = p_chunk FOR NO KEY UPDATE;
    IF FOUND AND (v_old.state = 'open' OR v_old.shard_key IS NOT NULL) THEN
        RAISE EXCEPTION 'chunk % is %, with the shard %', p_chunk, v_old.state, v_old.shard_key USING ERRCODE = 'VF010';
    END IF;
    SELECT sum((v ->> 'segments')::integer) INTO v_segments FROM jsonb_array_elements(p_videos) v;

    INSERT INTO public.worker_validators (worker_id, status) VALUES (p_worker, 'offline') ON CONFLICT DO NOTHING;
    UPDATE public.validation_chunks c  -- a chunk of this ledger that was given the number and left no shard
    SET shard_number = (SELECT max(m.shard_number) + 1 FROM public.validation_chunks m WHERE m.worker_id = p_worker)
    WHERE c.worker_id = p_worker AND c.shard_number = p_number AND c.chunk_id <> p_chunk;
    INSERT INTO public.validation_chunks AS c
           (chunk_id, worker_id, shard_number, suite, state, lease_expires_at, closed_at, close_reason, videos_claimed,
            videos_validated, segments, shard_key, shard_sha256, shard_bytes)
    VALUES (p_chunk, p_worker, p_number, p_shard ->> 'suite', 'committed', now(), now(), 'restored from its shard',
            v_videos, v_videos, v_segments, p_shard ->> 'key', p_shard ->> 'sha256',
            (p_shard ->> 'size_bytes')::bigint)
    ON CONFLICT (chunk_id) DO UPDATE
    SET state            = excluded.state,
        closed_at        = excluded.closed_at,
        close_reason     = excluded.close_reason,
        videos_claimed   = greatest(c.videos_claimed, excluded.videos_claimed),
        videos_validated = excluded.videos_validated,
        segments         = excluded.segments,
        shard_key        = excluded.shard_key,
        shard_sha256     = excluded.shard_sha256,
        shard_bytes      = excluded.shard_bytes;

    INSERT INTO public.validation_shards
           (shard_key, shard_sha256, shard_bytes, videos, segments, suite, models, chunk_id)
    VALUES (p_shard ->> 'key', p_shard ->> 'sha256', (p_shard ->> 'size_bytes')::bigint, v_videos, v_segments,
            p_shard ->> 'suite', coalesce(p_shard -> 'models', '{}'), p_chunk)
    RETURNING * INTO v_new;
    INSERT INTO public.validation_results (shard_key, video_id, suite, revision, segments, superseded_at)
    SELECT v_new.shard_key, v ->> 'video_id', v_new.suite, v_new.revision, (v ->> 'segments')::integer,
           CASE WHEN EXISTS (
               SELECT FROM public.validation_results r
               WHERE r.video_id = v ->> 'video_id' AND r.suite = v_new.suite AND r.revision = v_new.revision
                 AND r.superseded_at IS NULL) THEN now() END
    FROM jsonb_array_elements(p_videos) v;

    UPDATE public.video_queue q
    SET validation_status   = 'validated',
        validation_chunk    = p_chunk,
        validated_at        = now(),
        validation_segments = (v ->> 'segments')::integer,
        validation_error    = NULL
    FROM jsonb_array_elements(p_videos) v
    WHERE q.video_id = v ->> 'video_id' AND q.validation_status IN ('pending', 'validation_failed');
    GET DIAGNOSTICS v_validated = ROW_COUNT;
    PERFORM update_worker_counters(p_worker, v_videos, 0, v_segments, 1, (p_shard ->> 'size_bytes')::bigint);
    RETURN v_validated;
END
$$;

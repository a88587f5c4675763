-- withdraw_shard: remove a shard from the ledger, because its object is missing or has other bytes. If an older shard
-- has a result of one of its current videos, that result becomes current again; the other videos go back to the queue
-- with no attempts. The chunk of the shard is closed as expired, and its counts become 0. Returns how many videos were
-- requeued.
CREATE OR REPLACE FUNCTION validation.withdraw_shard(p_shard_key text, p_reason text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_old      public.validation_chunks;
    v_shard    public.validation_shards;
    v_lost     text[];
    v_requeued integer;
BEGIN
    SELECT * INTO v_shard FROM public.validation_shards s WHERE s.shard_key = p_shard_key FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT coalesce(array_agg(r.video_id), '{}') INTO v_lost
    FROM public.validation_results r WHERE r.shard_key = p_shard_key AND r.superseded_at IS NULL;
    DELETE FROM public.validation_results r WHERE r.shard_key = p_shard_key;
    DELETE FROM public.validation_shards s WHERE s.shard_key = p_shard_key;

    WITH older AS (
        SELECT DISTINCT ON (r.video_id) r.shard_key, r.video_id
        FROM public.validation_results r
        JOIN public.validation_shards s ON s.shard_key = r.shard_key AND s.deleted_at IS NULL
        WHERE r.video_id = ANY (v_lost) AND r.suite = v_shard.suite AND r.revision = v_shard.revision
        ORDER BY r.video_id, s.committed_at DESC
    ), current_again AS (
        UPDATE public.validation_results r SET superseded_at = NULL
        FROM older
        WHERE r.shard_key = older.shard_key AND r.video_id = older.video_id
        RETURNING r.video_id
    )
    SELECT coalesce(array_agg(lost.video_id), '{}') INTO v_lost
    FROM unnest(v_lost) AS lost (video_id)
    WHERE lost.video_id NOT IN (SELECT a.video_id FROM current_again a);

    SELECT * INTO v_old FROM public.validation_chunks c WHERE c.shard_key = p_shard_key FOR NO KEY UPDATE;
    IF FOUND THEN
        UPDATE public.validation_chunks c
        SET state = 'expired', close_reason = left(p_reason, 2000), videos_validated = 0, videos_failed = 0,
            segments = 0, shard_key = NULL, shard_sha256 = NULL, shard_bytes = NULL, audio_s = NULL,
            segments_accepted = NULL, segments_review = NULL, segments_rejected = NULL
        WHERE c.chunk_id = v_old.chunk_id;
        PERFORM update_worker_counters(v_old.worker_id, -v_old.videos_validated, -v_old.videos_failed,
                                       -v_old.segments, -1, -v_old.shard_bytes);
        v_lost := v_lost || ARRAY(SELECT q.video_id FROM public.video_queue q
                                  WHERE q.validation_chunk = v_old.chunk_id AND q.validation_status = 'validated');
    END IF;

    UPDATE public.video_queue q
    SET validation_status = 'pending', validation_chunk = NULL, validation_error = NULL, claimed_by = NULL,
        validation_attempts = 0, validation_crashes = 0, validation_losses = 0, validation_not_before = 'epoch',
        validation_witness = NULL,
        validation_models = NULL
    WHERE q.video_id = ANY (v_lost) AND q.validation_status = 'validated';
    GET DIAGNOSTICS v_requeued = ROW_COUNT;
    RETURN v_requeued;
END
$$;

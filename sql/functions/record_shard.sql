-- record_shard: record a shard and its videos for readers. Older results of the same video, suite and revision are
-- superseded in the same transaction: readers find each video exactly once, before and after.
-- p_shard: {key, sha256, size_bytes, suite, models}; p_videos: [{video_id, segments}].
-- Rows are locked in the order of their video ids, so that a commit and a compaction cannot deadlock.
CREATE OR REPLACE FUNCTION validation.record_shard(p_shard jsonb, p_chunk uuid, p_videos jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_new public.validation_shards;
BEGIN
    INSERT INTO public.validation_shards
           (shard_key, shard_sha256, shard_bytes, videos, segments, suite, models, chunk_id)
    SELECT p_shard ->> 'key', p_shard ->> 'sha256', (p_shard ->> 'size_bytes')::bigint,
           count(*), sum((v ->> 'segments')::integer), p_shard ->> 'suite', coalesce(p_shard -> 'models', '{}'), p_chunk
    FROM jsonb_array_elements(p_videos) v
    RETURNING * INTO v_new;

    WITH earlier AS MATERIALIZED (
        SELECT r.shard_key, r.video_id
        FROM public.validation_results r
        JOIN jsonb_array_elements(p_videos) v ON v ->> 'video_id' = r.video_id
        WHERE r.suite = v_new.suite AND r.revision = v_new.revision AND r.superseded_at IS NULL
        ORDER BY r.video_id
        FOR NO KEY UPDATE OF r
    )
    UPDATE public.validation_results r SET superseded_at = now()
    FROM earlier
    WHERE r.shard_key = earlier.shard_key AND r.video_id = earlier.video_id;

    INSERT INTO public.validation_results (shard_key, video_id, suite, revision, segments)
    SELECT v_new.shard_key, v ->> 'video_id', v_new.suite, v_new.revision, (v ->> 'segments')::integer
    FROM jsonb_array_elements(p_videos) v;
END
$$;

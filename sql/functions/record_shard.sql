-- record_shard: record a shard and its videos for readers. Older results of the same video, suite and revision are
-- superseded in the same transaction: readers find each video exactly once, before and after.
-- p_shard: {key, sha256, size_bytes, suite, models}; p_videos: [{video_id, segments}].
-- Rows are locked in the order of their video ids, so that a commit and a compaction cannot deadlock.
-- Older results are found by their index one video at a time, whatever the planner knows of the tables: until the first
-- ANALYZE it takes all results for a few pages and would read them all for each shard.
CREATE OR REPLACE FUNCTION validation.record_shard(p_shard jsonb, p_chunk uuid, p_videos jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_new      public.validation_shards;
    v_ids      text[];
    v_segments integer[];
BEGIN
    SELECT coalesce(array_agg(v.video_id), '{}'), coalesce(array_agg(v.segments), '{}') INTO v_ids, v_segments
    FROM (
        SELECT listed.video_id, listed.segments
        FROM jsonb_to_recordset(p_videos) listed (video_id text, segments integer)
        ORDER BY listed.video_id
    ) v;
    INSERT INTO public.validation_shards
           (shard_key, shard_sha256, shard_bytes, videos, segments, suite, models, chunk_id)
    VALUES (p_shard ->> 'key', p_shard ->> 'sha256', (p_shard ->> 'size_bytes')::bigint, cardinality(v_ids),
            (SELECT sum(n) FROM unnest(v_segments) n), p_shard ->> 'suite', coalesce(p_shard -> 'models', '{}'), p_chunk)
    RETURNING * INTO v_new;

    WITH earlier AS MATERIALIZED (
        SELECT old.*
        FROM unnest(v_ids) listed (video_id)
        CROSS JOIN LATERAL (
            SELECT r.shard_key, r.video_id
            FROM public.validation_results r
            WHERE r.video_id = listed.video_id AND r.suite = v_new.suite AND r.revision = v_new.revision
              AND r.superseded_at IS NULL
            OFFSET 0
            FOR NO KEY UPDATE
        ) old
    )
    UPDATE public.validation_results r SET superseded_at = now()
    FROM earlier
    WHERE r.shard_key = earlier.shard_key AND r.video_id = earlier.video_id;

    INSERT INTO public.validation_results (shard_key, video_id, suite, revision, segments)
    SELECT v_new.shard_key, listed.video_id, v_new.suite, v_new.revision, listed.segments
    FROM unnest(v_ids, v_segments) listed (video_id, segments);
END
$$;

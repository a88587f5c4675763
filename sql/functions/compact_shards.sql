-- compact_shards: replace shards by one shard that holds all their current videos.
-- p_shard, p_videos: as in record_shard. p_sources: the keys of the replaced shards, whose rows and objects stay until
-- purge_retired_shards.
-- Raises VF005 if p_videos are not exactly the current videos of the sources, or a source has another suite or models.
CREATE OR REPLACE FUNCTION validation.compact_shards(p_shard jsonb, p_sources text[], p_videos jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM FROM public.validation_results r
    WHERE r.shard_key = ANY (p_sources) AND r.superseded_at IS NULL
    ORDER BY r.video_id
    FOR NO KEY UPDATE;

    IF EXISTS (
        SELECT FROM (
            SELECT r.video_id, r.segments
            FROM public.validation_results r JOIN public.validation_shards s USING (shard_key)
            WHERE s.shard_key = ANY (p_sources) AND r.superseded_at IS NULL AND s.deleted_at IS NULL
              AND s.suite = p_shard ->> 'suite' AND s.models = p_shard -> 'models'
        ) present
        FULL JOIN (
            SELECT v ->> 'video_id' AS video_id, (v ->> 'segments')::integer AS segments
            FROM jsonb_array_elements(p_videos) v
        ) written USING (video_id, segments)
        WHERE present.video_id IS NULL OR written.video_id IS NULL
    ) THEN
        RAISE EXCEPTION 'the sources of % have changed since it was merged', p_shard ->> 'key' USING ERRCODE = 'VF005';
    END IF;

    PERFORM record_shard(p_shard, NULL, p_videos);
END
$$;

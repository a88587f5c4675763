-- compact_shards: let one shard stand for all that is current in others, or for nothing if that changed meanwhile.
-- p_shard, p_videos: as in record_shard; p_sources: the keys whose current videos it holds. The sources keep their
-- rows and objects until purge_retired_shards.
-- Raises VF005 if p_videos is not what is current in the sources now, or they are not of its suite and models.
CREATE OR REPLACE FUNCTION validation.compact_shards(p_shard jsonb, p_sources text[], p_videos jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM FROM validation_results r
    WHERE r.shard_key = ANY (p_sources) AND r.superseded_at IS NULL
    ORDER BY r.video_id
    FOR NO KEY UPDATE;

    IF EXISTS (
        SELECT FROM (
            SELECT r.video_id, r.segments
            FROM validation_results r JOIN validation_shards s USING (shard_key)
            WHERE s.shard_key = ANY (p_sources) AND r.superseded_at IS NULL AND s.deleted_at IS NULL
              AND s.suite = p_shard ->> 'suite' AND s.models = p_shard -> 'models'
        ) stands
        FULL JOIN (
            SELECT v ->> 'video_id' AS video_id, (v ->> 'segments')::integer AS segments
            FROM jsonb_array_elements(p_videos) v
        ) written USING (video_id, segments)
        WHERE stands.video_id IS NULL OR written.video_id IS NULL
    ) THEN
        RAISE EXCEPTION 'the shards changed while % was made of them', p_shard ->> 'key' USING ERRCODE = 'VF005';
    END IF;

    PERFORM record_shard(p_shard, NULL, p_videos);
END
$$;

-- record_shard: enter a shard for readers, with the videos in it. What stood elsewhere for the same videos, suite and
-- revision is superseded in the same moment: readers find each video exactly once, before and after.
-- p_shard: {key, sha256, size_bytes, suite, models}; p_videos: [{video_id, segments}].
-- The rows are locked in the order of their videos, so that a commit and a compaction cannot wait for each other.
CREATE OR REPLACE FUNCTION validation.record_shard(p_shard jsonb, p_chunk uuid, p_videos jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
DECLARE
    v_new validation_shards;
BEGIN
    INSERT INTO validation_shards (shard_key, shard_sha256, shard_bytes, videos, segments, suite, models, chunk_id)
    SELECT p_shard ->> 'key', p_shard ->> 'sha256', (p_shard ->> 'size_bytes')::bigint,
           count(*), sum((v ->> 'segments')::integer), p_shard ->> 'suite', coalesce(p_shard -> 'models', '{}'), p_chunk
    FROM jsonb_array_elements(p_videos) v
    RETURNING * INTO v_new;

    WITH stood AS MATERIALIZED (
        SELECT r.shard_key, r.video_id
        FROM validation_results r
        JOIN jsonb_array_elements(p_videos) v ON v ->> 'video_id' = r.video_id
        WHERE r.suite = v_new.suite AND r.revision = v_new.revision AND r.superseded_at IS NULL
        ORDER BY r.video_id
        FOR NO KEY UPDATE OF r
    )
    UPDATE validation_results r SET superseded_at = now()
    FROM stood
    WHERE r.shard_key = stood.shard_key AND r.video_id = stood.video_id;

    INSERT INTO validation_results (shard_key, video_id, suite, revision, segments)
    SELECT v_new.shard_key, v ->> 'video_id', v_new.suite, v_new.revision, (v ->> 'segments')::integer
    FROM jsonb_array_elements(p_videos) v;
END
$$;

-- update_worker_counters: bring a worker's row up to date after one of its chunks changed.
-- Deltas may be negative: a chunk that is taken back takes its progress with it, so that the counters always equal the
-- sums over the worker's chunks. Every caller has locked its chunk before: chunk first, worker last, in every function,
-- so that no two calls deadlock.
CREATE OR REPLACE FUNCTION validation.update_worker_counters(
    p_worker   text,
    p_videos   integer DEFAULT 0,
    p_failed   integer DEFAULT 0,
    p_segments integer DEFAULT 0,
    p_shards   integer DEFAULT 0,
    p_bytes    bigint  DEFAULT 0
) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    UPDATE public.worker_validators w
    SET videos_processed        = w.videos_processed   + p_videos,
        videos_failed           = w.videos_failed      + p_failed,
        segments_processed      = w.segments_processed + p_segments,
        shards_written          = w.shards_written     + p_shards,
        shards_uploaded         = w.shards_uploaded    + p_shards,
        total_parquet_mb        = w.total_parquet_mb   + p_bytes / 1e6,
        last_video_completed_at = CASE WHEN p_videos > 0 THEN now() ELSE w.last_video_completed_at END,
        flow_run_ids            = held.flow_run_ids,
        avg_segs_per_second     = coalesce(nullif(held.segments_per_s, 0), w.avg_segs_per_second),
        current_video_id        = CASE WHEN held.flow_run_ids = '{}' THEN NULL ELSE w.current_video_id END
    FROM (
        SELECT coalesce(array_agg(c.flow_run_id ORDER BY c.claimed_at) FILTER (WHERE c.flow_run_id IS NOT NULL), '{}')
                   AS flow_run_ids,
               coalesce(sum(c.segments_per_s), 0) AS segments_per_s
        FROM public.validation_chunks c
        WHERE c.worker_id = p_worker AND c.state = 'open'
    ) held
    WHERE w.worker_id = p_worker;
$$;

-- close_without_shard: close a chunk that has no shard, with the state p_state, and subtract its progress from the
-- counters of its worker.
CREATE OR REPLACE FUNCTION validation.close_without_shard(p_old public.validation_chunks, p_state text, p_reason text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    UPDATE public.validation_chunks c
    SET state = p_state, closed_at = now(), close_reason = p_reason,
        videos_validated = 0, videos_failed = 0, segments = 0, segments_per_s = 0
    WHERE c.chunk_id = p_old.chunk_id;
    PERFORM update_worker_counters(p_old.worker_id, -p_old.videos_validated, -p_old.videos_failed, -p_old.segments);
END
$$;

-- expire_chunk: take an open chunk back from a dead holder. The caller has locked the chunk's row.
-- Returns how many videos went back to the queue, and how many failed because they reached p_max_crashes.
CREATE OR REPLACE FUNCTION validation.expire_chunk(p_old public.validation_chunks, p_reason text, p_max_crashes integer)
RETURNS TABLE (returned integer, failed integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT * FROM return_crashed_videos(p_old.chunk_id, worker_outlived_run(p_old), p_max_crashes);
    PERFORM close_without_shard(p_old, 'expired', p_reason);
END
$$;

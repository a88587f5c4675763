-- audit: check the ledger against its own invariants. Reads only. Returns one row per invariant: how many rows violate
-- it, and one example. All checks see one snapshot, so a working fleet causes no false violation.
CREATE OR REPLACE FUNCTION validation.audit() RETURNS TABLE (invariant text, violations bigint, example text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT 'a validating video is held by an open chunk', count(*), min(q.video_id)
    FROM public.video_queue q LEFT JOIN public.validation_chunks c ON c.chunk_id = q.validation_chunk
    WHERE q.validation_status = 'validating' AND c.state IS DISTINCT FROM 'open'
    UNION ALL
    SELECT 'a validated video is in a committed shard', count(*), min(q.video_id)
    FROM public.video_queue q
    LEFT JOIN public.validation_chunks c  ON c.chunk_id = q.validation_chunk
    LEFT JOIN public.validation_results r ON r.shard_key = c.shard_key AND r.video_id = q.video_id
    WHERE q.validation_status = 'validated'
      AND (c.state IS DISTINCT FROM 'committed' OR r.segments IS DISTINCT FROM q.validation_segments)
    UNION ALL
    SELECT 'a committed chunk counts its validated videos and their segments', count(*), min(bad.chunk_id::text)
    FROM (
        SELECT c.chunk_id
        FROM public.validation_chunks c LEFT JOIN public.validation_results r USING (shard_key)
        WHERE c.state = 'committed'
        GROUP BY c.chunk_id
        HAVING c.videos_validated <> count(r.video_id) OR c.segments <> coalesce(sum(r.segments), 0)
    ) bad
    UNION ALL
    SELECT 'a shard counts its videos and their segments', count(*), min(bad.shard_key)
    FROM (
        SELECT s.shard_key
        FROM public.validation_shards s LEFT JOIN public.validation_results r USING (shard_key)
        GROUP BY s.shard_key
        HAVING s.videos <> count(r.video_id) OR s.segments <> coalesce(sum(r.segments), 0)
    ) bad
    UNION ALL
    SELECT 'a chunk and its shard agree on key, checksum and size', count(*), min(c.shard_key)
    FROM public.validation_chunks c LEFT JOIN public.validation_shards s USING (shard_key)
    WHERE c.shard_key IS NOT NULL
      AND (s.shard_sha256, s.shard_bytes, s.chunk_id) IS DISTINCT FROM (c.shard_sha256, c.shard_bytes, c.chunk_id)
    UNION ALL
    -- That no video has two current results is enforced by the index validation_results_current.
    SELECT 'a validated video that had a result has a current result', count(*), min(bad.video_id)
    FROM (
        SELECT r.video_id
        FROM public.validation_results r
        JOIN public.video_queue q ON q.video_id = r.video_id AND q.validation_status = 'validated'
        GROUP BY r.video_id, r.suite, r.revision
        HAVING bool_and(r.superseded_at IS NOT NULL)
    ) bad
    UNION ALL
    SELECT 'no current result is in a deleted shard', count(*), min(r.video_id)
    FROM public.validation_results r JOIN public.validation_shards s USING (shard_key)
    WHERE r.superseded_at IS NULL AND s.deleted_at IS NOT NULL
    UNION ALL
    SELECT 'an open chunk holds the videos that it claimed', count(*), min(bad.chunk_id::text)
    FROM (
        SELECT c.chunk_id
        FROM public.validation_chunks c LEFT JOIN public.video_queue q ON q.validation_chunk = c.chunk_id
        WHERE c.state = 'open'
        GROUP BY c.chunk_id
        HAVING c.videos_claimed <> count(*) FILTER (WHERE q.validation_status = 'validating')
    ) bad
    UNION ALL
    SELECT 'a worker''s counters equal the sums over its chunks', count(*), min(bad.worker_id)
    FROM (
        SELECT w.worker_id
        FROM public.worker_validators w LEFT JOIN public.validation_chunks c USING (worker_id)
        GROUP BY w.worker_id
        HAVING (w.videos_processed, w.videos_failed, w.segments_processed, w.shards_uploaded)
            <> (coalesce(sum(c.videos_validated), 0), coalesce(sum(c.videos_failed), 0),
                coalesce(sum(c.segments), 0), count(c.shard_key))
    ) bad
    UNION ALL
    SELECT 'a worker names the flow runs of its open chunks', count(*), min(w.worker_id)
    FROM public.worker_validators w
    WHERE cardinality(w.flow_run_ids) <> (SELECT count(c.flow_run_id) FROM public.validation_chunks c
                                           WHERE c.worker_id = w.worker_id AND c.state = 'open')
    UNION ALL
    SELECT 'attempts and crashes are not negative', count(*), min(q.video_id)
    FROM public.video_queue q
    WHERE q.validation_attempts < 0 OR q.validation_crashes < 0;
$$;

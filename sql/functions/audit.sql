-- audit: does the ledger contradict itself? Reads only. Returns one row a law: how often it is broken, and one example.
-- All checks see one snapshot, so a fleet at work does not disturb them.
CREATE OR REPLACE FUNCTION validation.audit() RETURNS TABLE (law text, violations bigint, example text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    SELECT 'a validating video is held by an open chunk', count(*), min(q.video_id)
    FROM video_queue q LEFT JOIN validation_chunks c ON c.chunk_id = q.validation_chunk
    WHERE q.validation_status = 'validating' AND c.state IS DISTINCT FROM 'open'
    UNION ALL
    SELECT 'a validated video stands in a committed shard', count(*), min(q.video_id)
    FROM video_queue q LEFT JOIN validation_chunks c ON c.chunk_id = q.validation_chunk
    WHERE q.validation_status = 'validated' AND (c.state IS DISTINCT FROM 'committed' OR c.shard_key IS NULL)
    UNION ALL
    SELECT 'a committed chunk counts its validated videos and their segments', count(*), min(bad.chunk_id::text)
    FROM (
        SELECT c.chunk_id
        FROM validation_chunks c LEFT JOIN video_queue q ON q.validation_chunk = c.chunk_id
        WHERE c.state = 'committed'
        GROUP BY c.chunk_id
        HAVING c.videos_validated <> count(*) FILTER (WHERE q.validation_status = 'validated')
            OR c.segments <> coalesce(sum(q.validation_segments) FILTER (WHERE q.validation_status = 'validated'), 0)
    ) bad
    UNION ALL
    SELECT 'an open chunk holds the videos that it claimed', count(*), min(bad.chunk_id::text)
    FROM (
        SELECT c.chunk_id
        FROM validation_chunks c LEFT JOIN video_queue q ON q.validation_chunk = c.chunk_id
        WHERE c.state = 'open'
        GROUP BY c.chunk_id
        HAVING c.videos_claimed <> count(*) FILTER (WHERE q.validation_status = 'validating')
    ) bad
    UNION ALL
    SELECT 'a worker''s counters equal the sums over its chunks', count(*), min(bad.worker_id)
    FROM (
        SELECT w.worker_id
        FROM worker_validators w LEFT JOIN validation_chunks c USING (worker_id)
        GROUP BY w.worker_id
        HAVING (w.videos_processed, w.videos_failed, w.segments_processed, w.shards_uploaded)
            <> (coalesce(sum(c.videos_validated), 0), coalesce(sum(c.videos_failed), 0),
                coalesce(sum(c.segments), 0), count(c.shard_key))
    ) bad
    UNION ALL
    SELECT 'a worker names the flow runs of its open chunks', count(*), min(w.worker_id)
    FROM worker_validators w
    WHERE cardinality(w.flow_run_ids) <> (SELECT count(c.flow_run_id) FROM validation_chunks c
                                           WHERE c.worker_id = w.worker_id AND c.state = 'open')
    UNION ALL
    SELECT 'no attempt and no crash is counted below zero', count(*), min(q.video_id)
    FROM video_queue q
    WHERE q.validation_attempts < 0 OR q.validation_crashes < 0;
$$;

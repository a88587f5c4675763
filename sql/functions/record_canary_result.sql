-- record_canary_result: record how a canary did in one chunk. A repeated call changes nothing.
-- If that quarantines the box, its open chunks are released at once and no video loses an attempt: the holder finds its
-- chunk closed and stops. A chunk that is being committed at this moment is left alone; quarantined_shards lists its
-- shard.
CREATE OR REPLACE FUNCTION validation.record_canary_result(p_video text, p_chunk uuid, p_outcome text, p_finding text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_chunk uuid;
BEGIN
    INSERT INTO canary_evaluations (video_id, chunk_id, outcome, finding)
    VALUES (p_video, p_chunk, p_outcome, p_finding)
    ON CONFLICT DO NOTHING;

    FOR v_chunk IN
        SELECT held.chunk_id
        FROM public.validation_chunks evaluated
        JOIN quarantined_workers q ON q.worker_id = evaluated.worker_id
                                  AND q.instance_label IS NOT DISTINCT FROM evaluated.instance_label
        JOIN public.validation_chunks held ON held.worker_id = evaluated.worker_id AND held.state = 'open'
                                          AND held.instance_label IS NOT DISTINCT FROM evaluated.instance_label
        WHERE evaluated.chunk_id = p_chunk AND p_outcome = 'wrong' AND NOT q.is_excused
        FOR NO KEY UPDATE OF held SKIP LOCKED
    LOOP
        PERFORM release_chunk(v_chunk, 'its worker is quarantined');
    END LOOP;
END
$$;

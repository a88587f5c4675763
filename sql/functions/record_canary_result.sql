-- record_canary_result: enter what became of a canary in one chunk; once, whoever says it again.
-- If its machine is distrusted from now on, what it holds goes back to the queue at once, and no attempt is lost: its
-- holder finds the chunk closed and stops. A chunk that is being committed at this moment is left alone, and stands
-- with the others that quarantined_shards names.
CREATE OR REPLACE FUNCTION validation.record_canary_result(p_video text, p_chunk uuid, p_outcome text, p_finding text)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_held uuid;
BEGIN
    INSERT INTO canary_judgements (video_id, chunk_id, outcome, finding)
    VALUES (p_video, p_chunk, p_outcome, p_finding)
    ON CONFLICT DO NOTHING;

    FOR v_held IN
        SELECT held.chunk_id
        FROM validation_chunks judged
        JOIN quarantined_workers d    ON d.worker_id = judged.worker_id AND d.machine IS NOT DISTINCT FROM judged.machine
        JOIN validation_chunks held  ON held.worker_id = judged.worker_id AND held.state = 'open'
                                    AND held.machine IS NOT DISTINCT FROM judged.machine
        WHERE judged.chunk_id = p_chunk AND p_outcome = 'wrong' AND NOT d.is_excused
        FOR NO KEY UPDATE OF held SKIP LOCKED
    LOOP
        PERFORM release_chunk(v_held, 'its worker is distrusted');
    END LOOP;
END
$$;

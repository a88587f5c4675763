-- quarantine_box: quarantine the box that has this worker id now: it gets no more work, and its open chunks are
-- released.
CREATE OR REPLACE FUNCTION validation.quarantine_box(p_worker text, p_finding text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_label text := (SELECT k.label FROM box_keys k WHERE k.worker_id = p_worker);
    v_chunk uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM box_quarantines b
                   WHERE b.worker_id = p_worker AND b.instance_label IS NOT DISTINCT FROM v_label
                     AND b.cleared_at IS NULL) THEN
        INSERT INTO box_quarantines (worker_id, instance_label, finding) VALUES (p_worker, v_label, p_finding);
    END IF;
    FOR v_chunk IN
        SELECT c.chunk_id FROM public.validation_chunks c
        WHERE c.worker_id = p_worker AND c.state = 'open'
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        PERFORM release_chunk(v_chunk, 'its worker is quarantined');
    END LOOP;
END
$$;

-- check_failures: quarantine a box with a key that fails or puts off videos while others do not: a hundred within an
-- hour and more than it validates, where boxes of other owners do so with less than a quarter of theirs. Its open chunks
-- go back to the queue.
CREATE OR REPLACE FUNCTION validation.check_failures(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_label  text := (SELECT k.label FROM box_keys k WHERE k.worker_id = p_worker);
    v_since  timestamptz := greatest(now() - interval '1 hour', (
        SELECT max(b.cleared_at) FROM box_quarantines b
        WHERE b.worker_id = p_worker AND b.instance_label IS NOT DISTINCT FROM v_label));
    v_own    record;
    v_others record;
    v_chunk  uuid;
BEGIN
    SELECT coalesce(sum(c.videos_failed), 0) AS failed, coalesce(sum(c.videos_validated), 0) AS validated INTO v_own
    FROM public.validation_chunks c
    WHERE c.worker_id = p_worker AND c.claimed_at > v_since AND c.state = 'committed'
      AND c.instance_label IS NOT DISTINCT FROM v_label;
    IF v_own.failed < 100 OR v_own.failed <= v_own.validated THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(c.videos_failed), 0) AS failed, coalesce(sum(c.videos_validated), 0) AS validated INTO v_others
    FROM public.validation_chunks c
    WHERE c.state = 'committed' AND c.closed_at > now() - interval '1 hour'
      AND box_owner(c.worker_id) <> box_owner(p_worker);
    IF v_others.validated <= 3 * v_others.failed THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM box_quarantines b
                   WHERE b.worker_id = p_worker AND b.instance_label IS NOT DISTINCT FROM v_label
                     AND b.cleared_at IS NULL) THEN
        INSERT INTO box_quarantines (worker_id, instance_label, finding)
        VALUES (p_worker, v_label, format('it failed %s videos and validated %s within an hour; other boxes %s and %s',
                                          v_own.failed, v_own.validated, v_others.failed, v_others.validated));
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

-- settle_failure: record that the control plane, as second witness, has read the object of a video that boxes of one
-- owner have failed. p_is_confirmed: the object is unusable, and the failure is final. Otherwise the failure is
-- refuted, and the video stays pending for the boxes of other owners.
-- A box is quarantined if twenty of its failures within a day were refuted, more than were confirmed, and a box of
-- another owner is online. It is not quarantined if a box of another owner has as many failures that were not
-- confirmed, because the cause is then not the box: the objects came late.
CREATE OR REPLACE FUNCTION validation.settle_failure(p_video text, p_is_confirmed boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_box record;
BEGIN
    UPDATE public.video_queue q
    SET validation_status = 'validation_failed',
        validation_error  = coalesce(q.validation_error, 'it cannot be read'),
        validation_chunk  = (SELECT d.chunk_id FROM box_decisions d
                             WHERE d.video_id = p_video AND d.owner = q.validation_witness
                             ORDER BY d.decided_at DESC LIMIT 1)
    WHERE q.video_id = p_video AND q.validation_status = 'pending' AND q.validation_witness IS NOT NULL
      AND p_is_confirmed;

    UPDATE box_decisions d SET refuted_at = now()
    WHERE d.video_id = p_video AND d.kind IN ('failed', 'crash') AND d.refuted_at IS NULL AND NOT p_is_confirmed;

    FOR v_box IN
        WITH judged AS (
            SELECT d.worker_id, d.owner, count(*) FILTER (WHERE d.refuted_at IS NOT NULL) AS refuted,
                   count(*) FILTER (WHERE q.validation_status = 'validation_failed' AND d.refuted_at IS NULL) AS confirmed,
                   count(*) AS failed
            FROM box_decisions d
            JOIN public.video_queue q USING (video_id)
            JOIN box_keys k ON k.worker_id = d.worker_id AND k.label IS NOT DISTINCT FROM d.instance_label
            WHERE d.kind = 'failed' AND d.decided_at > greatest(now() - interval '1 day', (
                      SELECT max(b.cleared_at) FROM box_quarantines b
                      WHERE b.worker_id = d.worker_id AND b.instance_label IS NOT DISTINCT FROM d.instance_label))
            GROUP BY d.worker_id, d.owner
        )
        SELECT j.worker_id, j.refuted, j.confirmed FROM judged j
        WHERE j.refuted >= 20 AND j.refuted > j.confirmed
          AND has_other_owner(j.owner)
          AND NOT EXISTS (SELECT FROM judged other WHERE other.owner <> j.owner AND other.failed - other.confirmed >= j.refuted)
          AND j.worker_id IN (SELECT d.worker_id FROM box_decisions d WHERE d.video_id = p_video)
    LOOP
        PERFORM quarantine_box(v_box.worker_id, format(
            'the control plane refuted %s of its failures within a day and confirmed %s', v_box.refuted, v_box.confirmed));
    END LOOP;
END
$$;

-- settle_failure: the control plane read the object of a video that one box failed, and is the second witness: the
-- failure is final, or it is refuted and the video stays in the queue for the boxes of other owners.
CREATE OR REPLACE FUNCTION validation.settle_failure(p_video text, p_is_confirmed boolean) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
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
$$;

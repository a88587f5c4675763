-- requeue_failed: give failed videos a fresh start, all of them or those named. Returns how many.
CREATE OR REPLACE FUNCTION validation.requeue_failed(p_video_ids text[]) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    WITH requeued AS (
        UPDATE video_queue q
        SET validation_status = 'pending', validation_chunk = NULL, validation_error = NULL, claimed_by = NULL,
            validation_attempts = 0, validation_crashes = 0, validation_not_before = 'epoch'
        WHERE q.validation_status = 'validation_failed' AND (p_video_ids IS NULL OR q.video_id = ANY (p_video_ids))
        RETURNING 1
    )
    SELECT count(*)::integer FROM requeued;
$$;

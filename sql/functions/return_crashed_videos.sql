-- return_crashed_videos: take what a dead chunk held back into the queue, remembering that its process died.
-- The claim is counted as a crash instead of an attempt: company in a crash costs no attempt (pick_suspects), and
-- p_max_crashes of them fail the video. Returns how many went back and how many failed.
CREATE OR REPLACE FUNCTION validation.return_crashed_videos(p_chunk uuid, p_max_crashes integer)
RETURNS TABLE (returned integer, failed integer)
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    WITH touched AS (
        UPDATE video_queue q
        SET validation_status   = CASE WHEN q.validation_crashes + 1 < p_max_crashes THEN 'pending'
                                       ELSE 'validation_failed' END,
            validation_chunk    = CASE WHEN q.validation_crashes + 1 < p_max_crashes THEN NULL ELSE p_chunk END,
            validation_error    = CASE WHEN q.validation_crashes + 1 < p_max_crashes THEN q.validation_error
                                       ELSE format('poison: its process died %s times', q.validation_crashes + 1) END,
            validation_attempts = q.validation_attempts - 1,
            validation_crashes  = q.validation_crashes + 1,
            claimed_by          = NULL
        WHERE q.validation_chunk = p_chunk AND q.validation_status = 'validating'
        RETURNING q.validation_status
    )
    SELECT count(*) FILTER (WHERE validation_status = 'pending')::integer,
           count(*) FILTER (WHERE validation_status = 'validation_failed')::integer
    FROM touched;
$$;

-- return_videos: put the videos that a chunk still holds back into the queue, without an attempt. Returns how many.
CREATE OR REPLACE FUNCTION validation.return_videos(p_chunk uuid) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    WITH returned AS (
        UPDATE public.video_queue q
        SET validation_status   = 'pending',
            validation_chunk    = NULL,
            validation_attempts = q.validation_attempts - 1,
            claimed_by          = NULL
        WHERE q.validation_chunk = p_chunk AND q.validation_status = 'validating'
        RETURNING 1
    )
    SELECT count(*)::integer FROM returned;
$$;

-- return_crashed_videos: put the videos of a dead chunk back into the queue and count the crash.
-- The claim counts as a crash instead of an attempt: sharing a chunk with a poisonous video costs no attempt
-- (pick_crash_suspects). p_max_crashes crashes fail the video.
-- A crash is a process that died while its worker lived on (p_is_crash). The loss of a whole box says little about its
-- videos: only the fourth loss since the last crash counts as a crash, so that a video that kills whole boxes is found
-- too, and is claimed alone before it fails. Returns how many went back and how many failed.
CREATE OR REPLACE FUNCTION validation.return_crashed_videos(p_chunk uuid, p_is_crash boolean, p_max_crashes integer)
RETURNS TABLE (returned integer, failed integer)
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    WITH held AS (
        SELECT q.video_id, q.validation_crashes, q.validation_losses,
               p_is_crash OR q.validation_losses >= 3 AS is_crash
        FROM public.video_queue q
        WHERE q.validation_chunk = p_chunk AND q.validation_status = 'validating'
        FOR NO KEY UPDATE
    ), counted AS (
        SELECT h.video_id,
               h.validation_crashes + h.is_crash::integer                    AS crashes,
               CASE WHEN h.is_crash THEN 0 ELSE h.validation_losses + 1 END AS losses
        FROM held h
    ), touched AS (
        UPDATE public.video_queue q
        SET validation_status   = CASE WHEN c.crashes < p_max_crashes THEN 'pending' ELSE 'validation_failed' END,
            validation_chunk    = CASE WHEN c.crashes < p_max_crashes THEN NULL ELSE p_chunk END,
            validation_error    = CASE WHEN c.crashes < p_max_crashes THEN q.validation_error
                                       ELSE format('poison: its process died %s times', c.crashes) END,
            validation_attempts = q.validation_attempts - 1,
            validation_crashes  = c.crashes,
            validation_losses   = c.losses,
            claimed_by          = NULL
        FROM counted c
        WHERE q.video_id = c.video_id
        RETURNING q.validation_status
    )
    SELECT count(*) FILTER (WHERE validation_status = 'pending')::integer,
           count(*) FILTER (WHERE validation_status = 'validation_failed')::integer
    FROM touched;
$$;

-- requeue_stranded_videos: put videos back into the queue that have been `validating` for p_older_than_s in no open
-- chunk. No function of the ledger leaves such a video behind; an edit by hand may. Returns how many.
CREATE OR REPLACE FUNCTION validation.requeue_stranded_videos(p_older_than_s integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    WITH stranded AS (
        UPDATE public.video_queue q
        SET validation_status = 'pending', validation_chunk = NULL, claimed_by = NULL
        WHERE q.validation_status = 'validating'
          AND q.claimed_at < now() - make_interval(secs => p_older_than_s)
          AND NOT EXISTS (SELECT FROM public.validation_chunks c
                          WHERE c.chunk_id = q.validation_chunk AND c.state = 'open')
        RETURNING 1
    )
    SELECT count(*)::integer FROM stranded;
$$;

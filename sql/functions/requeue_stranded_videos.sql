-- requeue_stranded_videos: the last net. A video that has been `validating` for p_older_than_s while no open chunk
-- holds it goes back to the queue. Nothing in this protocol leaves one behind; a hand edit may. Returns how many.
CREATE OR REPLACE FUNCTION validation.requeue_stranded_videos(p_older_than_s integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    WITH stranded AS (
        UPDATE video_queue q
        SET validation_status = 'pending', validation_chunk = NULL, claimed_by = NULL
        WHERE q.validation_status = 'validating'
          AND q.claimed_at < now() - make_interval(secs => p_older_than_s)
          AND NOT EXISTS (SELECT FROM validation_chunks c WHERE c.chunk_id = q.validation_chunk AND c.state = 'open')
        RETURNING 1
    )
    SELECT count(*)::integer FROM stranded;
$$;

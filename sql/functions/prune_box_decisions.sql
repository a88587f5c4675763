-- prune_box_decisions: delete the decisions that are older than p_older_than_s, except decisions about videos that wait
-- for a second witness. Returns how many.
CREATE OR REPLACE FUNCTION validation.prune_box_decisions(p_older_than_s integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    WITH pruned AS (
        DELETE FROM box_decisions d
        WHERE d.decided_at < now() - make_interval(secs => p_older_than_s)
          AND NOT EXISTS (SELECT FROM public.video_queue q
                          WHERE q.video_id = d.video_id AND q.validation_status = 'pending'
                            AND q.validation_witness IS NOT NULL)
        RETURNING 1
    )
    SELECT count(*)::integer FROM pruned;
$$;

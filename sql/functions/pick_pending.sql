-- pick_pending: lock up to p_size pending videos whose hash lies in [p_from, p_below), without those that p_owner has
-- failed: they wait for a second witness (see commit_chunk).
-- A random start spreads concurrent claims over the index: from its head, each claim would step over the rows that all
-- others have locked and over the dead entries of everything claimed before (measured: an eleventh of the throughput).
-- MATERIALIZED: the planner may otherwise repeat the LIMIT inside a nested loop and lock too many rows.
-- NO KEY UPDATE: no key is changed, so a pipeline that references the row is not blocked.
-- One generic plan: a plan per call would cost as much as the rest of a claim.
CREATE OR REPLACE FUNCTION validation.pick_pending(
    p_size      integer,
    p_from      bigint,
    p_below     bigint,
    p_languages text[],
    p_owner     text
) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
    SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_ids text[];
BEGIN
    WITH picked AS MATERIALIZED (
        SELECT q.video_id
        FROM public.video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending' AND q.validation_crashes = 0
          AND q.validation_not_before <= now()
          AND hashtext(q.video_id) >= p_from AND hashtext(q.video_id) < p_below
          AND (q.validation_witness IS NULL OR q.validation_witness IS DISTINCT FROM p_owner)
          AND (p_languages IS NULL OR validation.is_language(q.language, p_languages))
        ORDER BY hashtext(q.video_id)
        LIMIT p_size
        FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(video_id), '{}') INTO v_ids FROM picked;
    RETURN v_ids;
END
$$;

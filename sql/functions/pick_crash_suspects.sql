-- pick_crash_suspects: lock a few videos under which a flow process died, without those that p_owner has failed.
-- One of them may be poison. After its first crash a video shares a chunk of a fifth of the usual size, after its
-- second it is claimed alone: so an innocent video counts at most one more crash, and the third crash is always the
-- poisonous video's.
CREATE OR REPLACE FUNCTION validation.pick_crash_suspects(p_size integer, p_languages text[], p_owner text)
RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
    SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_ids text[];
BEGIN
    WITH first AS MATERIALIZED (
        SELECT q.video_id, q.validation_crashes
        FROM public.video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending' AND q.validation_crashes > 0
          AND q.validation_not_before <= now()
          AND (q.validation_witness IS NULL OR q.validation_witness IS DISTINCT FROM p_owner)
          AND (p_languages IS NULL OR validation.is_language(q.language, p_languages))
        ORDER BY q.validation_crashes, hashtext(q.video_id)
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ), mates AS MATERIALIZED (
        SELECT q.video_id
        FROM public.video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending'
          AND q.validation_crashes > 0  -- stated for the planner: the index holds no others
          AND q.validation_crashes = (SELECT validation_crashes FROM first)
          AND q.validation_not_before <= now()
          AND q.video_id <> (SELECT video_id FROM first)
          AND (q.validation_witness IS NULL OR q.validation_witness IS DISTINCT FROM p_owner)
          AND (p_languages IS NULL OR validation.is_language(q.language, p_languages))
        ORDER BY hashtext(q.video_id)
        LIMIT (SELECT CASE WHEN validation_crashes = 1 THEN greatest(p_size / 5, 1) - 1 ELSE 0 END FROM first)
        FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(video_id), '{}') INTO v_ids
    FROM (SELECT video_id FROM first UNION ALL SELECT video_id FROM mates) picked;
    RETURN v_ids;
END
$$;

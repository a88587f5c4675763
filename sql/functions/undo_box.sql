-- undo_box: undo what a box decided within the last p_since_s seconds. p_box: a worker id, or the label of a rented
-- box. Videos that the box failed, postponed or returned by a crash or loss become claimable; the attempts, crashes and
-- losses that the box added are subtracted. Validated videos whose last commit is from the box become pending; their
-- results stay current until they are committed again. Videos that another box holds now, or has validated since, are
-- left. Returns the number of videos per kind of decision. With p_dry_run nothing is changed.
CREATE OR REPLACE FUNCTION validation.undo_box(p_box text, p_since_s integer, p_dry_run boolean)
RETURNS TABLE (decision text, videos bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    v_since     timestamptz := now() - make_interval(secs => p_since_s);
    v_decided   text[] := ARRAY(
        SELECT DISTINCT d.video_id
        FROM box_decisions d JOIN public.video_queue q USING (video_id)
        WHERE p_box IN (d.worker_id, d.instance_label) AND d.decided_at >= v_since
          AND q.validation_status IN ('pending', 'validation_failed'));
    v_validated text[] := ARRAY(
        SELECT q.video_id
        FROM public.validation_chunks c JOIN public.video_queue q ON q.validation_chunk = c.chunk_id
        WHERE p_box IN (c.worker_id, c.instance_label) AND c.state = 'committed' AND c.closed_at >= v_since
          AND q.validation_status = 'validated');
BEGIN
    RETURN QUERY
    SELECT d.kind, count(DISTINCT d.video_id)
    FROM box_decisions d
    WHERE d.video_id = ANY (v_decided) AND p_box IN (d.worker_id, d.instance_label) AND d.decided_at >= v_since
    GROUP BY d.kind
    UNION ALL
    SELECT 'validated', cardinality(v_validated)::bigint WHERE cardinality(v_validated) > 0
    ORDER BY 1;

    IF p_dry_run THEN
        RETURN;
    END IF;
    WITH taken_back AS (
        DELETE FROM box_decisions d
        WHERE d.video_id = ANY (v_decided) AND p_box IN (d.worker_id, d.instance_label) AND d.decided_at >= v_since
        RETURNING d.*
    ), added AS (
        SELECT t.video_id,
               coalesce(sum(t.cost) FILTER (WHERE t.kind IN ('failed', 'postponed')), 0) AS attempts,
               coalesce(sum(t.cost) FILTER (WHERE t.kind = 'crash'), 0)                  AS crashes,
               coalesce(sum(t.cost) FILTER (WHERE t.kind = 'loss'), 0)                   AS losses
        FROM taken_back t
        GROUP BY t.video_id
    )
    UPDATE public.video_queue q
    SET validation_status = 'pending', validation_chunk = NULL, validation_error = NULL, claimed_by = NULL,
        validation_attempts = greatest(q.validation_attempts - a.attempts, 0),
        validation_crashes = greatest(q.validation_crashes - a.crashes, 0),
        validation_losses = greatest(q.validation_losses - a.losses, 0),
        validation_not_before = 'epoch', validation_witness = NULL
    FROM added a
    WHERE q.video_id = a.video_id AND q.validation_status IN ('pending', 'validation_failed');
    UPDATE public.video_queue q
    SET validation_status = 'pending', validation_chunk = NULL, claimed_by = NULL, validation_attempts = 0,
        validation_not_before = 'epoch'
    WHERE q.video_id = ANY (v_validated) AND q.validation_status = 'validated';
END
$$;

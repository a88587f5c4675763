-- requeue_videos: make validated and failed videos pending again, with no attempts and no back-off: those that meet
-- every condition that is not null. Their results stay current until the same suite and revision commits them again.
-- Returns how many, by language and status; with p_dry_run changes nothing.
--   p_status:   'validated' or 'validation_failed'.
--   p_worker:   a worker's id or a rented box's label: videos that it committed last, or of which it wrote a current
--               result (see current_results).
--   p_suite, p_revision: videos with a current result of it.
--   p_lacking:  {model: revision or null for any}: validated videos without a current result of one of these models.
--               Only these models will be asked.
CREATE OR REPLACE FUNCTION validation.requeue_videos(
    p_video_ids text[],
    p_status    text,
    p_languages text[],
    p_worker    text,
    p_suite     text,
    p_revision  text,
    p_lacking   jsonb,
    p_dry_run   boolean
) RETURNS TABLE (language text, status text, videos bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    v_ids text[];
BEGIN
    SELECT coalesce(array_agg(q.video_id), '{}') INTO v_ids
    FROM public.video_queue q
    WHERE q.status = 'done' AND q.validation_status IN ('validated', 'validation_failed')
      AND (p_status    IS NULL OR q.validation_status = p_status)
      AND (p_video_ids IS NULL OR q.video_id = ANY (p_video_ids))
      AND (p_languages IS NULL OR q.language = ANY (p_languages))
      AND (p_worker    IS NULL OR EXISTS (
              SELECT FROM public.validation_chunks c
              WHERE c.chunk_id = q.validation_chunk AND p_worker IN (c.worker_id, c.instance_label))
           OR q.video_id IN (
              SELECT r.video_id FROM current_results r WHERE p_worker IN (r.worker_id, r.instance_label)))
      AND (coalesce(p_suite, p_revision) IS NULL OR EXISTS (
              SELECT FROM public.validation_results r
              WHERE r.video_id = q.video_id AND r.superseded_at IS NULL
                AND (p_suite IS NULL OR r.suite = p_suite) AND (p_revision IS NULL OR r.revision = p_revision)))
      AND (p_lacking   IS NULL OR q.validation_status = 'validated' AND EXISTS (
              SELECT FROM jsonb_each_text(p_lacking) wanted
              WHERE NOT EXISTS (
                  SELECT FROM public.validation_results r JOIN public.validation_shards s USING (shard_key)
                  WHERE r.video_id = q.video_id AND r.superseded_at IS NULL
                    AND (p_suite IS NULL OR r.suite = p_suite)
                    AND s.models ->> wanted.key IS NOT NULL
                    AND (wanted.value IS NULL OR s.models ->> wanted.key = wanted.value))));

    RETURN QUERY
    SELECT coalesce(q.language, 'unknown'), q.validation_status, count(*)
    FROM public.video_queue q
    WHERE q.video_id = ANY (v_ids)
    GROUP BY 1, 2
    ORDER BY 3 DESC, 1, 2;

    IF NOT p_dry_run THEN
        UPDATE public.video_queue q
        SET validation_status = 'pending', validation_chunk = NULL, validation_error = NULL, claimed_by = NULL,
            validation_attempts = 0, validation_crashes = 0, validation_losses = 0,
            validation_not_before = 'epoch', validation_witness = NULL,
            validation_models = (SELECT array_agg(wanted.key ORDER BY wanted.key) FROM jsonb_each(p_lacking) wanted)
        WHERE q.video_id = ANY (v_ids) AND q.validation_status IN ('validated', 'validation_failed');
    END IF;
END
$$;

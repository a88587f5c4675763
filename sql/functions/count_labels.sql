-- count_labels: the number of pending videos of some languages per label, the most frequent labels first, at most 200.
-- p_languages null: all languages. A machine compares the labels with those that its models know. Reads the whole
-- queue. Raises VF007 to a box with the wrong key (see check_box_key).
CREATE OR REPLACE FUNCTION validation.count_labels(p_worker text, p_languages text[])
RETURNS TABLE (language text, videos bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    PERFORM check_box_key(p_worker);
    RETURN QUERY
        SELECT q.language, count(*)
        FROM public.video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending'
          AND (p_languages IS NULL OR validation.is_language(q.language, p_languages))
        GROUP BY 1
        ORDER BY 2 DESC, 1
        LIMIT 200;
END
$$;

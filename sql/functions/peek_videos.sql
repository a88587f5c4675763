-- peek_videos: up to p_count claimable videos of some languages (p_languages null: all), at most 10. They are neither
-- claimed nor locked. A machine tests with them whether it can read tars, before it claims anything. Raises VF007 to a
-- box with the wrong key (see check_box_key).
CREATE OR REPLACE FUNCTION validation.peek_videos(p_worker text, p_languages text[], p_count integer)
RETURNS TABLE (video_id text, language text, segment_count integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    PERFORM check_box_key(p_worker);
    RETURN QUERY
        SELECT q.video_id, q.language, q.segment_count
        FROM public.video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending' AND q.validation_not_before <= now()
          AND (p_languages IS NULL OR validation.is_language(q.language, p_languages))
        ORDER BY hashtext(q.video_id)
        LIMIT least(p_count, 10);
END
$$;

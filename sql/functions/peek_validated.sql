-- peek_validated: up to three validated videos. A machine whose videos all fail alike tests with them whether it can
-- read any tar. Raises VF007 to a box with the wrong key (see check_box_key).
CREATE OR REPLACE FUNCTION validation.peek_validated(p_worker text)
RETURNS TABLE (video_id text, language text, segment_count integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    PERFORM check_box_key(p_worker);
    RETURN QUERY
        SELECT q.video_id, q.language, q.segment_count
        FROM public.video_queue q
        WHERE q.validation_status = 'validated'
        LIMIT 3;
END
$$;

-- check_segment_counts: refuse a count above 100,000 segments per video, which is days of speech: a false count would
-- overflow the sums that other workers' counts enter. Returns the count; raises VF002.
CREATE OR REPLACE FUNCTION validation.check_segment_counts(p_segments bigint, p_videos integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    IF p_segments NOT BETWEEN 0 AND 100000 * p_videos::bigint THEN
        RAISE EXCEPTION '% segments in % videos: 100000 per video is the limit', p_segments, p_videos
            USING ERRCODE = 'VF002';
    END IF;
    RETURN p_segments;
END
$$;

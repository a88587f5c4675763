-- check_segment_counts: let nobody count more segments than so many videos can have: a hundred thousand each, which is days
-- of speech. Beyond, a lie would overflow the sums that others' work stands in. Returns the count; raises VF002.
CREATE OR REPLACE FUNCTION validation.check_segment_counts(p_segments bigint, p_videos integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
BEGIN
    IF p_segments NOT BETWEEN 0 AND 100000 * p_videos::bigint THEN
        RAISE EXCEPTION '% segments in % videos', p_segments, p_videos USING ERRCODE = 'VF002';
    END IF;
    RETURN p_segments;
END
$$;

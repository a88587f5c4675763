-- check_allowance: how many videos a box with a key may still claim. Of the videos that it claimed within the last
-- hour, at most 2,000 may be not validated: still held, given back, failed or postponed. If the best box of another
-- owner validated more than 500 videos in that hour, the limit is four times that number. Raises VF006 at the limit.
CREATE OR REPLACE FUNCTION validation.check_allowance(p_worker text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_spent   integer := (SELECT coalesce(sum(
                              c.videos_claimed - CASE WHEN c.state = 'committed' THEN c.videos_validated ELSE 0 END), 0)
                          FROM public.validation_chunks c
                          WHERE c.worker_id = p_worker AND c.claimed_at > now() - interval '1 hour');
    v_allowed integer := 2000;
BEGIN
    IF v_spent >= v_allowed THEN
        SELECT greatest(v_allowed, 4 * max(other.validated)) INTO v_allowed
        FROM (
            SELECT sum(c.videos_validated)::integer AS validated
            FROM public.validation_chunks c
            WHERE c.state = 'committed' AND c.closed_at > now() - interval '1 hour'
              AND box_owner(c.worker_id) <> box_owner(p_worker)
            GROUP BY c.worker_id
        ) other;
    END IF;
    IF v_spent >= v_allowed THEN
        RAISE EXCEPTION 'worker % claimed % videos within an hour that came to nothing, the limit is %',
            p_worker, v_spent, v_allowed USING ERRCODE = 'VF006';
    END IF;
    RETURN v_allowed - v_spent;
END
$$;

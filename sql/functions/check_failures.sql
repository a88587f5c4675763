-- check_failures: quarantine a box with a key that fails or postpones videos of languages that other boxes validate: a
-- hundred videos within an hour, and more than it validates. A language counts only if boxes of other owners validated
-- at least ten of its videos in that hour, and at least four times as many as they failed or postponed. So a box that
-- alone works on a language with broken tars is not quarantined. Where no other box works, the control plane judges
-- (see settle_failure).
CREATE OR REPLACE FUNCTION validation.check_failures(p_worker text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_label     text := (SELECT k.label FROM box_keys k WHERE k.worker_id = p_worker);
    v_owner     text := box_owner(p_worker);
    v_since     timestamptz := greatest(now() - interval '1 hour', (
        SELECT max(b.cleared_at) FROM box_quarantines b
        WHERE b.worker_id = p_worker AND b.instance_label IS NOT DISTINCT FROM v_label));
    v_validated bigint;
    v_found     record;
BEGIN
    -- Cheap, because it runs at each commit with a failure; what follows reads the results of an hour.
    SELECT coalesce(sum(c.videos_validated), 0) INTO v_validated
    FROM public.validation_chunks c
    WHERE c.worker_id = p_worker AND c.claimed_at > v_since AND c.state = 'committed'
      AND c.instance_label IS NOT DISTINCT FROM v_label;
    IF (SELECT count(*) FROM box_decisions d
        WHERE d.worker_id = p_worker AND d.instance_label IS NOT DISTINCT FROM v_label
          AND d.decided_at > v_since AND d.kind IN ('failed', 'postponed')) < greatest(100, v_validated + 1) THEN
        RETURN;
    END IF;
    WITH own AS (
        SELECT q.language, count(*) AS failed
        FROM box_decisions d JOIN public.video_queue q USING (video_id)
        WHERE d.worker_id = p_worker AND d.instance_label IS NOT DISTINCT FROM v_label
          AND d.decided_at > v_since AND d.kind IN ('failed', 'postponed')
        GROUP BY q.language
    ), others AS (
        SELECT q.language, count(*) AS validated, 0 AS failed
        FROM public.validation_chunks c
        JOIN public.validation_results r USING (shard_key)
        JOIN public.video_queue q ON q.video_id = r.video_id
        WHERE c.state = 'committed' AND c.closed_at > now() - interval '1 hour' AND box_owner(c.worker_id) <> v_owner
        GROUP BY q.language
        UNION ALL
        SELECT q.language, 0, count(*)
        FROM box_decisions d JOIN public.video_queue q USING (video_id)
        WHERE d.decided_at > now() - interval '1 hour' AND d.owner <> v_owner AND d.kind IN ('failed', 'postponed')
        GROUP BY q.language
    ), alike AS (
        SELECT own.language, own.failed, sum(others.validated) AS others_validated, sum(others.failed) AS others_failed
        FROM own JOIN others USING (language)
        GROUP BY own.language, own.failed
        HAVING sum(others.validated) >= greatest(10, 4 * sum(others.failed))
    )
    SELECT sum(a.failed) AS failed, sum(a.others_validated) AS others_validated, sum(a.others_failed) AS others_failed
    INTO v_found FROM alike a;
    IF v_found.failed >= 100 AND v_found.failed > v_validated THEN
        PERFORM quarantine_box(p_worker, format(
            'it failed %s videos and validated %s within an hour; of the same languages other boxes failed %s and '
            'validated %s', v_found.failed, v_validated, v_found.others_failed, v_found.others_validated));
    END IF;
END
$$;

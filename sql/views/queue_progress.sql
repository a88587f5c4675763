-- queue_progress: how many videos are in which status, by language, the largest language first.
CREATE OR REPLACE VIEW validation.queue_progress AS
SELECT coalesce(language, 'unknown')                                    AS language,
       count(*)                                                         AS videos,
       count(*) FILTER (WHERE validation_status = 'pending')            AS pending,
       count(*) FILTER (WHERE validation_status = 'validating')         AS validating,
       count(*) FILTER (WHERE validation_status = 'validated')          AS validated,
       count(*) FILTER (WHERE validation_status = 'validation_failed')  AS failed,
       sum(validation_segments)                                         AS segments,
       count(*) FILTER (WHERE validation_segments <> segment_count)     AS segment_count_mismatches,
       round(count(*) FILTER (WHERE validation_status IN ('validated', 'validation_failed')) / count(*)::numeric, 4)
                                                                        AS done_share
FROM public.video_queue
WHERE status = 'done'
GROUP BY 1
ORDER BY videos DESC, language;

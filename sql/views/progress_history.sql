-- progress_history: the last week of work in steps, the present one included: what was committed in each, what was left
-- at its end, and what the rented boxes cost. No row until something was committed.
-- A step is one minute in the first two hours, ten minutes in the first day, then one hour; duration_s is less for the
-- first and the present step.
-- failed are videos that failed for good; a video that waits for another attempt is left.
-- videos_left is counted back from what is left now: a video that was added later counts in the earlier steps too. usd
-- is null if no box was ever rented; verdicts and audio_s are null where no chunk counted them.
CREATE OR REPLACE VIEW validation.progress_history AS
WITH work AS (
    SELECT greatest(min(claimed_at), now() - interval '7 days') AS began_at
    FROM public.validation_chunks
    WHERE state = 'committed' AND closed_at > now() - interval '7 days'
    HAVING count(*) > 0
), scale AS (
    SELECT began_at,
           CASE WHEN now() - began_at <= interval '2 hours' THEN interval '1 minute'
                WHEN now() - began_at <= interval '1 day'   THEN interval '10 minutes'
                ELSE interval '1 hour' END AS step
    FROM work
), steps AS (
    SELECT starts_at,
           greatest(starts_at, began_at)  AS from_at,
           least(starts_at + step, now()) AS until_at
    FROM scale CROSS JOIN generate_series(date_bin(step, began_at, 'epoch'), now(), step) AS starts_at
), committed AS (
    SELECT date_bin(step, closed_at, 'epoch') AS starts_at, count(*) AS chunks, sum(videos_validated) AS videos,
           sum(segments) AS segments, sum(audio_s) AS audio_s, sum(segments_accepted) AS accepted,
           sum(segments_review) AS review, sum(segments_rejected) AS rejected
    FROM scale CROSS JOIN public.validation_chunks
    WHERE state = 'committed' AND closed_at > now() - interval '7 days'
    GROUP BY 1
), failed AS (
    SELECT date_bin(step, c.closed_at, 'epoch') AS starts_at, count(*) AS failed
    FROM scale CROSS JOIN public.video_queue q
    JOIN public.validation_chunks c ON c.chunk_id = q.validation_chunk
    WHERE q.validation_status = 'validation_failed' AND c.closed_at > now() - interval '7 days'
    GROUP BY 1
), billed AS (
    SELECT s.starts_at,
           sum(i.usd_per_hour * extract(epoch FROM least(coalesce(i.billed_until, s.until_at), s.until_at)
                                                   - greatest(i.requested_at, s.from_at)) / 3600
               + CASE WHEN i.requested_at >= s.from_at THEN i.usd_once ELSE 0 END) AS usd
    FROM steps s
    JOIN public.fleet_instances i ON i.requested_at < s.until_at AND coalesce(i.billed_until, s.until_at) > s.from_at
                          AND (i.state <> 'gone' OR i.instance_id IS NOT NULL)
    GROUP BY s.starts_at
), remaining AS (
    SELECT count(*) AS videos
    FROM public.video_queue
    WHERE status = 'done' AND validation_status IN ('pending', 'validating')
)
SELECT s.starts_at,
       extract(epoch FROM s.until_at - s.from_at)::real AS duration_s,
       coalesce(c.chunks, 0)                            AS chunks,
       coalesce(c.videos, 0)                            AS videos,
       coalesce(c.segments, 0)                          AS segments,
       c.audio_s, c.accepted, c.review, c.rejected,
       remaining.videos + coalesce(sum(coalesce(c.videos, 0) + coalesce(f.failed, 0)) OVER later, 0) AS videos_left,
       CASE WHEN EXISTS (SELECT FROM public.fleet_instances) THEN coalesce(b.usd, 0) END AS usd,
       coalesce(f.failed, 0)                            AS failed
FROM steps s
LEFT JOIN committed c USING (starts_at)
LEFT JOIN failed    f USING (starts_at)
LEFT JOIN billed    b USING (starts_at)
CROSS JOIN remaining
WINDOW later AS (ORDER BY s.starts_at DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
ORDER BY s.starts_at;

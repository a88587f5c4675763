-- eta: videos left, the rate of the last hour, and when the queue will be empty at that rate. If work began within the
-- hour, the rate counts from the first claim of what was committed in it.
-- Done means validated or failed for good; a video that waits for another attempt is left.
-- Claims start at random points, so the videos done are an unbiased sample of those left.
-- seconds_left_min and seconds_left_max enclose the true value nine times in ten, if the fleet works on as before:
-- commits come in lumps, so the error of the rate is estimated from the spread of five-minute blocks (batch means with
-- Student's t). videos_per_s and seconds_left are null until something was committed; the bounds until there are three
-- blocks; seconds_left_max also while the rate may be zero.
CREATE OR REPLACE VIEW validation.eta AS
WITH recent AS (
    SELECT c.claimed_at, c.closed_at, c.segments, c.videos_validated + (
               SELECT count(*) FROM public.video_queue q
               WHERE q.validation_chunk = c.chunk_id AND q.validation_status = 'validation_failed') AS videos
    FROM public.validation_chunks c
    WHERE c.state = 'committed' AND c.closed_at > now() - interval '60 minutes'
), rate AS (
    -- At most the hour, however long ago a chunk was claimed: a straggler's other hours had commits of their own.
    SELECT sum(videos) / nullif(least(extract(epoch FROM now() - min(claimed_at)), 3600), 0) AS videos_per_s,
           sum(segments) / nullif(least(extract(epoch FROM now() - min(claimed_at)), 3600), 0) AS segments_per_s
    FROM recent
), block AS (
    SELECT coalesce(sum(r.videos), 0) AS videos
    FROM generate_series(0, 11) n
    LEFT JOIN recent r ON r.closed_at <= now() - n       * interval '5 minutes'
                      AND r.closed_at >  now() - (n + 1) * interval '5 minutes'
    WHERE now() - (n + 1) * interval '5 minutes' >= (SELECT min(closed_at) FROM recent)
    GROUP BY n
), error AS (  -- half the width of the rate's interval, as a share of the rate
    SELECT (ARRAY[NULL, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796])[count(*) - 1]
               * stddev_samp(videos) / nullif(avg(videos), 0) / sqrt(count(*)) AS share
    FROM block
), remaining AS (
    SELECT count(*) AS videos_left
    FROM public.video_queue
    WHERE status = 'done' AND validation_status IN ('pending', 'validating')
)
SELECT videos_left,
       videos_per_s::real                                                                AS videos_per_s,
       (videos_left / nullif(videos_per_s, 0))::real                                     AS seconds_left,
       now() + make_interval(secs => (videos_left / nullif(videos_per_s, 0))::double precision) AS empty_at,
       (videos_left / nullif(videos_per_s * (1 + error.share), 0))::real                 AS seconds_left_min,
       (videos_left / nullif(videos_per_s * greatest(1 - error.share, 0), 0))::real      AS seconds_left_max,
       segments_per_s::real                                                              AS segments_per_s
FROM remaining CROSS JOIN rate CROSS JOIN error;

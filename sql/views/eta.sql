-- eta: videos left, the rate since the first commit of the last hour, and when the queue is empty at that rate.
-- Claims start at random points, so what is done is an unbiased sample of what is left.
-- videos_per_s and seconds_left are null until something was committed.
CREATE OR REPLACE VIEW validation.eta AS
WITH rate AS (
    SELECT sum(videos_validated + videos_failed)
               / nullif(extract(epoch FROM now() - min(claimed_at)), 0) AS videos_per_s
    FROM validation_chunks
    WHERE state = 'committed' AND closed_at > now() - interval '60 minutes'
), remaining AS (
    SELECT count(*) AS videos_left
    FROM video_queue
    WHERE status = 'done' AND validation_status IN ('pending', 'validating')
)
SELECT videos_left,
       videos_per_s::real                                                                AS videos_per_s,
       (videos_left / nullif(videos_per_s, 0))::real                                     AS seconds_left,
       now() + make_interval(secs => (videos_left / nullif(videos_per_s, 0))::double precision) AS empty_at
FROM remaining CROSS JOIN rate;

-- throughput_recent: what was committed in each of the last 60 minutes that had a commit. videos_failed counts
-- attempts: those that failed for good and those that will be tried again.
CREATE OR REPLACE VIEW validation.throughput_recent AS
SELECT date_trunc('minute', closed_at) AS minute,
       count(*)                        AS chunks,
       sum(videos_validated)           AS videos_validated,
       sum(videos_failed)              AS videos_failed,
       sum(segments)                   AS segments,
       sum(shard_bytes)                AS shard_bytes
FROM public.validation_chunks
WHERE state = 'committed' AND closed_at > now() - interval '60 minutes'
GROUP BY 1
ORDER BY 1;

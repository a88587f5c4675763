-- fleet_overview: the whole fleet in one row.
-- accepted, review and rejected are segments by the verdict of their last commit; they and audio_s leave out canaries
-- and what no chunk counted (see chunk_tallies), and are null if nothing else is left.
CREATE OR REPLACE VIEW validation.fleet_overview AS
SELECT (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'online')   AS workers_online,
       (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'late')     AS workers_late,
       (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'stale')    AS workers_stale,
       (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'offline')  AS workers_offline,
       (SELECT sum(avg_segs_per_second) FROM validation.worker_liveness
         WHERE liveness = 'online' AND open_chunks > 0)                              AS segments_per_s,
       (SELECT count(*) FROM public.validation_chunks WHERE state = 'open')                 AS chunks_open,
       (SELECT count(*) FROM public.validation_chunks WHERE state = 'committed')            AS chunks_committed,
       (SELECT count(*) FROM public.validation_chunks WHERE state = 'expired')              AS chunks_expired,
       p.pending, p.validating, p.validated, p.failed, p.segments,
       d.audio_s, d.accepted, d.review, d.rejected
FROM (
    SELECT sum(pending) AS pending, sum(validating) AS validating, sum(validated) AS validated,
           sum(failed) AS failed, sum(segments) AS segments
    FROM validation.queue_progress
) p CROSS JOIN (
    SELECT sum(audio_s) AS audio_s, round(sum(accepted))::bigint AS accepted, round(sum(review))::bigint AS review,
           round(sum(rejected))::bigint AS rejected
    FROM validation.chunk_tallies
) d;

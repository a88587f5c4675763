-- fleet_overview: the whole fleet in one row.
CREATE OR REPLACE VIEW validation.fleet_overview AS
SELECT (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'online')   AS workers_online,
       (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'late')     AS workers_late,
       (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'stale')    AS workers_stale,
       (SELECT count(*) FROM validation.worker_liveness WHERE liveness = 'offline')  AS workers_offline,
       (SELECT sum(avg_segs_per_second) FROM validation.worker_liveness
         WHERE liveness = 'online' AND open_chunks > 0)                              AS segments_per_s,
       (SELECT count(*) FROM validation_chunks WHERE state = 'open')                 AS chunks_open,
       (SELECT count(*) FROM validation_chunks WHERE state = 'committed')            AS chunks_committed,
       (SELECT count(*) FROM validation_chunks WHERE state = 'expired')              AS chunks_expired,
       p.pending, p.validating, p.validated, p.failed, p.segments
FROM (
    SELECT sum(pending) AS pending, sum(validating) AS validating, sum(validated) AS validated,
           sum(failed) AS failed, sum(segments) AS segments
    FROM validation.queue_progress
) p;

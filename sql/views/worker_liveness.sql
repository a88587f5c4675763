-- worker_liveness: every worker with the age of its heartbeat, what it holds, and why it is quarantined, if it is.
CREATE OR REPLACE VIEW validation.worker_liveness AS
SELECT w.worker_id, w.status, w.gpu_type, w.gpu_vram_gb, w.prefect_worker,
       extract(epoch FROM now() - w.last_heartbeat_at)::real AS heartbeat_age_s,
       CASE
           WHEN w.status = 'offline'                                       THEN 'offline'
           WHEN w.last_heartbeat_at > now() - interval '60 seconds'        THEN 'online'
           WHEN w.last_heartbeat_at > now() - interval '120 seconds'       THEN 'late'
           ELSE 'stale'
       END                                                   AS liveness,
       w.current_video_id, w.videos_processed, w.videos_failed, w.segments_processed, w.avg_segs_per_second,
       w.shards_uploaded, w.total_parquet_mb, w.started_at, w.last_video_completed_at, w.last_error,
       cardinality(w.flow_run_ids)                           AS open_chunks,
       w.flow_run_ids,
       q.finding                                             AS quarantine_reason
FROM public.worker_validators w
LEFT JOIN validation.quarantined_workers q ON q.worker_id = w.worker_id AND q.is_current AND NOT q.is_excused
ORDER BY w.worker_id;

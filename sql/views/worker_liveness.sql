-- worker_liveness: every worker with its silence, what it holds, and why it is distrusted, if it is.
CREATE OR REPLACE VIEW validation.worker_liveness AS
SELECT w.worker_id, w.status, w.gpu_type, w.gpu_vram_gb, w.prefect_worker,
       extract(epoch FROM now() - w.last_heartbeat_at)::real AS silent_s,
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
       d.finding                                             AS distrust
FROM worker_validators w
LEFT JOIN validation.quarantined_workers d ON d.worker_id = w.worker_id AND d.is_present AND NOT d.is_excused
ORDER BY w.worker_id;

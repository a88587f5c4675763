-- rented_instances: every box that may still be billed and those closed within the last half hour, with what its worker
-- reports. A heartbeat from before the request belongs to an earlier box of the same slot.
CREATE OR REPLACE VIEW validation.rented_instances AS
SELECT i.fleet, i.label, i.slot, i.worker_id, i.state, i.offer_id, i.machine_id, i.host_id, i.gpu_name,
       i.usd_per_hour, i.usd_once, i.boot_timeout_s, i.instance_id, i.requested_at, i.changed_at,
       i.vendor_status, i.vendor_status_since, i.vendor_message, i.absences, i.first_running_at, i.accepted_at,
       i.slow_since, i.reason, i.closed_at,
       w.last_heartbeat_at                              AS heartbeat_at,
       coalesce(w.avg_segs_per_second, 0)::real         AS segments_per_s,
       w.last_video_completed_at                        AS video_completed_at,
       coalesce(cardinality(w.flow_run_ids), 0)         AS open_chunks,
       w.config_json -> 'gpus' -> 0 ->> 'name'          AS gpu_seen,
       q.finding                                        AS quarantine_reason
FROM public.fleet_instances i
LEFT JOIN public.worker_validators w
       ON w.worker_id = i.worker_id AND i.state NOT IN ('requested', 'gone') AND w.last_heartbeat_at >= i.requested_at
LEFT JOIN validation.quarantined_workers q ON q.instance_label = i.label AND NOT q.is_excused
WHERE i.state <> 'gone' OR i.closed_at > validation.fleet_now() - interval '30 minutes'
ORDER BY i.fleet, i.slot, i.requested_at;

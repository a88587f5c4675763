-- workload: what the dispatcher weighs, in one row. A worker takes as many runs at once as it said when it registered.
CREATE OR REPLACE VIEW validation.workload AS
SELECT (SELECT count(*) FROM video_queue
         WHERE status = 'done' AND validation_status = 'pending' AND validation_not_before <= now()) AS claimable_videos,
       (SELECT count(*) FROM validation_chunks WHERE state = 'open')                                 AS open_chunks,
       (SELECT coalesce(sum(coalesce((config_json -> 'budgets' ->> 'flow_runs')::integer, 1)), 0) FROM worker_validators
         WHERE status = 'online' AND last_heartbeat_at > now() - interval '60 seconds')              AS slots_online,
       -- Of the claimable: those that travel in small company after one crash, and those that travel alone.
       (SELECT count(*) FROM video_queue
         WHERE status = 'done' AND validation_status = 'pending' AND validation_not_before <= now()
           AND validation_crashes = 1)                                                               AS suspects,
       (SELECT count(*) FROM video_queue
         WHERE status = 'done' AND validation_status = 'pending' AND validation_not_before <= now()
           AND validation_crashes > 1)                                                               AS lone_suspects;

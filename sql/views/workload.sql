-- workload: what dispatch plans by, in one row. slots_online: the flow runs that the online workers execute at once, as
-- they registered. suspects and isolated_suspects are among the claimable videos: those with one crash, which share
-- chunks of a fifth of the usual size, and those with more, which are claimed alone (see pick_crash_suspects). A video
-- that waits for a second witness counts only if a box of another owner is online.
-- chunk_s is the mean time from claim to commit in the last half hour, null if nothing was committed in it.
CREATE OR REPLACE VIEW validation.workload AS
SELECT (SELECT count(*) FROM public.video_queue
         WHERE status = 'done' AND validation_status = 'pending'
           AND validation_not_before <= now()
           AND (validation_witness IS NULL OR validation.has_other_owner(validation_witness))) AS claimable_videos,
       (SELECT count(*) FROM public.validation_chunks WHERE state = 'open')      AS open_chunks,
       (SELECT coalesce(sum(coalesce((config_json -> 'budgets' ->> 'flow_runs')::integer, 1)), 0)
          FROM public.worker_validators
         WHERE status = 'online'
           AND last_heartbeat_at > now() - interval '60 seconds')                AS slots_online,
       (SELECT count(*) FROM public.video_queue
         WHERE status = 'done' AND validation_status = 'pending' AND validation_not_before <= now()
           AND (validation_witness IS NULL OR validation.has_other_owner(validation_witness))
           AND validation_crashes = 1)                                           AS suspects,
       (SELECT count(*) FROM public.video_queue
         WHERE status = 'done' AND validation_status = 'pending' AND validation_not_before <= now()
           AND (validation_witness IS NULL OR validation.has_other_owner(validation_witness))
           AND validation_crashes > 1)                                           AS isolated_suspects,
       (SELECT avg(extract(epoch FROM closed_at - claimed_at))::real
          FROM public.validation_chunks
         WHERE state = 'committed' AND closed_at > now() - interval '30 minutes') AS chunk_s;

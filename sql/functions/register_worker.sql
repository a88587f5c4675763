-- register_worker: insert a worker's row, or take it over after a restart, before it claims anything.
-- Chunks still open under its id belong to its earlier session and are taken back; returns how many.
-- p_config carries `instance`, which names one process of one machine. p_replaces is an instance that the caller knows
-- to be dead. p_max_crashes below 3 is raised to 3: fewer would fail innocent videos (see pick_crash_suspects).
-- Raises VF002 if p_config is larger than 64 KiB or names more than 99 flow runs, because dispatch creates as many as
-- workers ask for; VF004 if another instance sends heartbeats under this id; VF007 if the caller is another box (see
-- check_box_key); VF008 for a quarantined worker.
CREATE OR REPLACE FUNCTION validation.register_worker(
    p_worker         text,
    p_gpu_type       text,
    p_gpu_vram_gb    real,
    p_config         jsonb,
    p_prefect_worker text,
    p_replaces       text,
    p_max_crashes    integer
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_dead     public.validation_chunks;
    v_other    text;
    v_taken_back integer := 0;
BEGIN
    PERFORM check_box_key(p_worker);
    PERFORM check_not_quarantined(p_worker);
    IF octet_length(p_config::text) > 65536 THEN
        RAISE EXCEPTION 'worker %: its configuration is larger than 64 KiB', p_worker USING ERRCODE = 'VF002';
    END IF;
    PERFORM check_json('config', p_config, '{"instance": "text?"}');
    IF p_config ? 'budgets' THEN
        PERFORM check_json('config.budgets', p_config -> 'budgets', '{"flow_runs": "count?", "lease_s": "number?"}');
    END IF;
    IF p_config ? 'gpus' THEN
        PERFORM check_json('config.gpus', p_config -> 'gpus', '[{"name": "text"}]');
    END IF;
    IF (p_config -> 'budgets' ->> 'flow_runs')::numeric > 99 THEN
        RAISE EXCEPTION 'worker %: budgets.flow_runs is above 99', p_worker USING ERRCODE = 'VF002';
    END IF;
    PERFORM lock_worker(p_worker);  -- of two boxes that start at once, the second waits and is refused
    SELECT w.config_json ->> 'instance' INTO v_other
    FROM public.worker_validators w
    WHERE w.worker_id = p_worker
      AND w.status IN ('online', 'draining') AND w.last_heartbeat_at > now() - interval '60 seconds'
      AND w.config_json ->> 'instance' <> p_config ->> 'instance'
      AND w.config_json ->> 'instance' IS DISTINCT FROM p_replaces;
    IF FOUND THEN
        RAISE EXCEPTION '%', v_other USING ERRCODE = 'VF004';
    END IF;

    FOR v_dead IN
        SELECT * FROM public.validation_chunks c WHERE c.worker_id = p_worker AND c.state = 'open' FOR NO KEY UPDATE
    LOOP
        PERFORM expire_chunk(v_dead, 'worker restarted', greatest(p_max_crashes, 3));
        v_taken_back := v_taken_back + 1;
    END LOOP;

    INSERT INTO public.worker_validators (worker_id, gpu_type, gpu_vram_gb, config_json, prefect_worker)
    VALUES (p_worker, left(p_gpu_type, 200), CASE WHEN p_gpu_vram_gb BETWEEN 0 AND 1e4 THEN p_gpu_vram_gb END, p_config,
            left(p_prefect_worker, 200))
    ON CONFLICT (worker_id) DO UPDATE
    SET status            = 'online',
        gpu_type          = excluded.gpu_type,
        gpu_vram_gb       = excluded.gpu_vram_gb,
        config_json       = excluded.config_json,
        prefect_worker    = excluded.prefect_worker,
        started_at        = now(),
        last_heartbeat_at = now(),
        avg_segs_per_second = 0;  -- that of the earlier session, which may have had another GPU
    RETURN v_taken_back;
END
$$;

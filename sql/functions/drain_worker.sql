-- drain_worker: a worker announces that it takes no new chunk.
CREATE OR REPLACE FUNCTION validation.drain_worker(p_worker text, p_instance text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM check_instance(p_worker, p_instance);
    UPDATE public.worker_validators w SET status = 'draining', last_heartbeat_at = now() WHERE w.worker_id = p_worker;
END
$$;

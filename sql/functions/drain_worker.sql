-- drain_worker: a worker announces that it takes no new chunk.
CREATE OR REPLACE FUNCTION validation.drain_worker(p_worker text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE worker_validators w SET status = 'draining', last_heartbeat_at = now() WHERE w.worker_id = p_worker;
$$;

-- end_box_sessions: end database sessions of the boxes' logins, and free their locks. A session is ended if its
-- transaction has waited for its client for p_idle_s, if its transaction has lasted for p_transaction_s, or if it holds
-- an advisory lock, which can outlive a transaction. With 0 and 0 every session of these logins is ended. An honest box
-- loses one call, which it repeats. Only logins that were granted to validation_owner can be ended (see roles.sql).
-- Returns the number of ended sessions.
CREATE OR REPLACE FUNCTION validation.end_box_sessions(p_idle_s integer, p_transaction_s integer) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT count(*) FILTER (WHERE pg_terminate_backend(a.pid))::integer
    FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND pg_has_role(a.usesysid, 'validation_worker', 'member')
      AND NOT pg_has_role(a.usesysid, 'validation_control', 'member')
      AND pg_has_role(a.usesysid, 'usage')
      AND (p_idle_s = 0 AND p_transaction_s = 0
           OR a.state LIKE 'idle in transaction%'
              AND a.state_change < clock_timestamp() - make_interval(secs => p_idle_s)
           OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory')
           OR a.xact_start < clock_timestamp() - make_interval(secs => p_transaction_s));
$$;

-- lock_holder: which session has locked what another one waits for. The waiting session is known by its pid, or by the
-- text of its statement where a pooler hides the pid.
SELECT coalesce(waiting.relation::regclass::text, waiting.locktype) AS locked, holder.pid, holder.usename AS login,
       holder.application_name AS application, extract(epoch FROM now() - holder.xact_start)::integer AS held_s
FROM pg_locks waiting
JOIN pg_stat_activity own ON own.pid = waiting.pid
CROSS JOIN unnest(pg_blocking_pids(waiting.pid)) AS blocking (pid)
JOIN pg_stat_activity holder ON holder.pid = blocking.pid
WHERE NOT waiting.granted AND (own.pid = %(pid)s OR own.query = %(statement)s)
LIMIT 1;

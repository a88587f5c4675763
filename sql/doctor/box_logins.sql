-- box_logins: what the logins of boxes could take from others. One row per login.
SELECT l.rolname::text                                      AS login,
       l.rolconnlimit                                       AS connection_limit,
       current_setting('max_connections')::integer          AS max_connections,
       pg_has_role('validation_owner', l.oid, 'usage')      AS can_be_ended,
       has_schema_privilege(l.oid, 'public', 'CREATE')      AS may_create,
       -- Where roles.sql denied advisory locks to boxes: privileges of functions are those of one database.
       CASE WHEN NOT has_function_privilege(l.oid, 'pg_advisory_lock(bigint)', 'EXECUTE') THEN ARRAY(
           SELECT d.datname::text FROM pg_database d
           WHERE d.datallowconn AND d.datname <> current_database() AND has_database_privilege(l.oid, d.oid, 'CONNECT')
           ORDER BY 1) ELSE '{}' END                        AS other_databases
FROM pg_roles l
WHERE l.rolcanlogin AND pg_has_role(l.oid, 'validation_worker', 'usage')
  AND NOT pg_has_role(l.oid, 'validation_control', 'usage')
ORDER BY 1;

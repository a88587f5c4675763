-- box_logins: what the logins of boxes could take from others. One row per login.
SELECT l.rolname::text                                      AS login,
       l.rolconnlimit                                       AS connection_limit,
       current_setting('max_connections')::integer          AS max_connections,
       pg_has_role('validation_owner', l.oid, 'usage')      AS can_be_ended,
       has_schema_privilege(l.oid, 'public', 'CREATE')      AS may_create
FROM pg_roles l
WHERE l.rolcanlogin AND pg_has_role(l.oid, 'validation_worker', 'usage')
  AND NOT pg_has_role(l.oid, 'validation_control', 'usage')
ORDER BY 1;

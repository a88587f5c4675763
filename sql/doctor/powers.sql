-- powers: the current login and what it may do with the ledger. One row; works at any migration.
SELECT current_user::text                              AS login,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
       ARRAY(SELECT p.proname::text FROM pg_proc p
             WHERE p.pronamespace = to_regnamespace('validation')
               AND has_schema_privilege(p.pronamespace, 'USAGE')
               AND has_function_privilege(p.oid, 'EXECUTE')
             ORDER BY 1)                               AS functions,
       ARRAY(SELECT c.relname::text FROM pg_class c
             WHERE c.relkind = 'r' AND c.relnamespace IN ('public'::regnamespace, to_regnamespace('validation'))
               AND has_schema_privilege(c.relnamespace, 'USAGE')
               AND has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')
             ORDER BY 1)                               AS tables;

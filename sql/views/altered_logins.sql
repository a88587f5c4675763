-- altered_logins: settings that a box's login sets in each of its sessions, and the statement that resets them.
-- Postgres lets a login alter itself, and all boxes share one: a setting made by one box holds for all. Normally empty:
-- temp_file_limit is left out, because only a superuser can set it.
CREATE OR REPLACE VIEW validation.altered_logins AS
SELECT l.rolname::text                                                                   AS login,
       array_to_string(made.settings, ', ')                                              AS settings,
       format('ALTER ROLE %I%s RESET ALL', l.rolname, ' IN DATABASE ' || quote_ident(d.datname)) AS remedy
FROM pg_db_role_setting s
JOIN pg_roles l         ON l.oid = s.setrole
LEFT JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN LATERAL (SELECT array_agg(c) AS settings FROM unnest(s.setconfig) c
                    WHERE c NOT LIKE 'temp\_file\_limit=%') made
WHERE made.settings IS NOT NULL AND (s.setdatabase = 0 OR d.datname = current_database())
  AND pg_has_role(l.oid, 'validation_worker', 'usage') AND NOT pg_has_role(l.oid, 'validation_control', 'usage');

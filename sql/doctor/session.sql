-- session: the server's clock, which backend served this transaction, and how many it has for everybody.
SELECT clock_timestamp()                               AS now,
       pg_backend_pid()                                AS backend,
       current_setting('max_connections')::int         AS max_connections;

-- session: the server's clock, the backend that served this transaction, and how many connections it allows.
SELECT clock_timestamp()                               AS now,
       pg_backend_pid()                                AS backend,
       current_setting('max_connections')::int         AS max_connections;

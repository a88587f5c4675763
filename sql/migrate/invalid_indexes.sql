-- invalid_indexes: indexes of the ledger whose build was cut off, so that no query uses them, and whether another session
-- builds one now. REINDEX CONCURRENTLY leaves copies named _ccnew and _ccold when it is cut off itself.
SELECT c.oid::regclass::text AS qualified, c.relname AS name,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) AS is_being_built
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND regexp_replace(c.relname, '_cc(new|old)[0-9]*$', '') = ANY (%(names)s)
ORDER BY 1;

-- queue_columns: the columns of the table or view public.video_queue; no row if there is none.
SELECT c.relkind::text                    AS kind,
       a.attname::text                    AS name,
       format_type(a.atttypid, NULL)      AS type,
       t.typtype = 'e'                    AS is_enum,
       EXISTS (SELECT FROM pg_index i
               WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
                 AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum) AS is_unique
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.oid = to_regclass('public.video_queue');

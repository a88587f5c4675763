-- writable: whether the database accepts changes, and if not, whether it is a replica.
SELECT current_setting('transaction_read_only')::boolean AS is_read_only, pg_is_in_recovery() AS is_replica;

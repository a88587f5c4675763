-- purge_retired_shards: give up the objects of shards that no reader has needed for p_older_than_s: everything in them
-- stands in newer ones. Returns their keys. Who deletes them may die on the way: the sweep finds what is left.
CREATE OR REPLACE FUNCTION validation.purge_retired_shards(p_older_than_s integer) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE validation_shards s SET deleted_at = now()
    WHERE s.deleted_at IS NULL
      AND NOT EXISTS (
          SELECT FROM validation_results r
          WHERE r.shard_key = s.shard_key
            AND coalesce(r.superseded_at, 'infinity') > now() - make_interval(secs => p_older_than_s))
    RETURNING s.shard_key;
$$;

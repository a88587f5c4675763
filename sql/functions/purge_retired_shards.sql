-- purge_retired_shards: mark shards deleted that have been retired for p_older_than_s. Returns their keys, for the
-- caller to delete the objects. If the caller dies before it has, the sweep deletes them as orphans.
CREATE OR REPLACE FUNCTION validation.purge_retired_shards(p_older_than_s integer) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    UPDATE public.validation_shards s SET deleted_at = now()
    WHERE s.deleted_at IS NULL
      AND NOT EXISTS (
          SELECT FROM public.validation_results r
          WHERE r.shard_key = s.shard_key
            AND coalesce(r.superseded_at, 'infinity') > now() - make_interval(secs => p_older_than_s))
    RETURNING s.shard_key;
$$;

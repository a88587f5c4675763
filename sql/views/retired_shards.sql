-- retired_shards: shards whose every result was superseded by newer shards. Their objects are kept until
-- purge_retired_shards.
CREATE OR REPLACE VIEW validation.retired_shards AS
SELECT s.shard_key, s.shard_sha256, s.shard_bytes, s.segments, s.suite, s.revision, max(r.superseded_at) AS retired_at
FROM public.validation_shards s
JOIN public.validation_results r USING (shard_key)
WHERE s.deleted_at IS NULL
GROUP BY s.shard_key
HAVING bool_and(r.superseded_at IS NOT NULL)
ORDER BY s.shard_key;

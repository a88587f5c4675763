-- shard_key_of: the object key of a chunk's shard. validation/shards/naming.py has the same rule.
CREATE OR REPLACE FUNCTION validation.shard_key_of(p_chunk public.validation_chunks) RETURNS text
LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT format('shards/%1$s/validation_%1$s_shard_%2$s.parquet', p_chunk.worker_id,
                  lpad(p_chunk.shard_number::text, greatest(4, length(p_chunk.shard_number::text)), '0'));
$$;

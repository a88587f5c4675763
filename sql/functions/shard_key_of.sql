-- shard_key_of: where the shard of a chunk lies, and nowhere else (validation/shards/naming.py says the same).
CREATE OR REPLACE FUNCTION validation.shard_key_of(p_chunk validation_chunks) RETURNS text
LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    SELECT format('shards/%1$s/validation_%1$s_shard_%2$s.parquet', p_chunk.worker_id,
                  lpad(p_chunk.shard_number::text, greatest(4, length(p_chunk.shard_number::text)), '0'));
$$;

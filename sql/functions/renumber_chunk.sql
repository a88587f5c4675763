-- renumber_chunk: give an open chunk a new shard number, above p_above and above every number of its worker. Returns
-- the number. The holder calls it when another shard has the key of its shard: the bucket then has shards that the
-- ledger does not know, because the ledger is new or was restored from a backup. Raises VF001 if the chunk is not open;
-- VF002 if p_above is not between 0 and 99,999,999; VF007 if the caller is another box than the holder (see
-- check_box_key).
CREATE OR REPLACE FUNCTION validation.renumber_chunk(p_chunk uuid, p_above integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_worker text;
    v_number integer;
BEGIN
    SELECT c.worker_id INTO v_worker FROM public.validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM raise_claim_lost(p_chunk);
    END IF;
    PERFORM check_box_key(v_worker);
    IF p_above NOT BETWEEN 0 AND 99999999 THEN
        RAISE EXCEPTION 'chunk %: no shard has the number %', p_chunk, p_above USING ERRCODE = 'VF002';
    END IF;
    PERFORM lock_worker(v_worker);  -- of two chunks that are renumbered at once, one waits
    SELECT greatest(max(c.shard_number), p_above) + 1 INTO v_number
    FROM public.validation_chunks c WHERE c.worker_id = v_worker;
    UPDATE public.validation_chunks c SET shard_number = v_number WHERE c.chunk_id = p_chunk;
    RETURN v_number;
END
$$;

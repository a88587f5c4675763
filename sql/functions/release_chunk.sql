-- release_chunk: the holder gives its open chunk back; no video loses an attempt. Returns how many videos went back.
-- Raises VF001 if the chunk is not open; VF007 if the caller is another box than its holder (see check_box_key).
CREATE OR REPLACE FUNCTION validation.release_chunk(p_chunk uuid, p_reason text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_old      public.validation_chunks;
    v_returned integer;
BEGIN
    SELECT * INTO v_old FROM public.validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM raise_claim_lost(p_chunk);
    END IF;
    PERFORM check_box_key(v_old.worker_id);
    v_returned := return_videos(p_chunk);
    PERFORM close_without_shard(v_old, 'released', left(p_reason, 2000));
    RETURN v_returned;
END
$$;

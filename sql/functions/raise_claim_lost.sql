-- raise_claim_lost: always raises VF001, with the state of a chunk that is not open.
CREATE OR REPLACE FUNCTION validation.raise_claim_lost(p_chunk uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%',
        coalesce((SELECT c.state FROM public.validation_chunks c WHERE c.chunk_id = p_chunk), 'unknown')
        USING ERRCODE = 'VF001';
END
$$;

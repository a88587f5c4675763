-- raise_claim_lost: tell a writer whose token no longer opens anything what became of its chunk. Always raises.
CREATE OR REPLACE FUNCTION validation.raise_claim_lost(p_chunk uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%', coalesce((SELECT c.state FROM validation_chunks c WHERE c.chunk_id = p_chunk), 'unknown')
        USING ERRCODE = 'VF001';
END
$$;

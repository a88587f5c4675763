-- find_unknown_chunks: those of the given chunks for which this ledger has no row. Their shards were committed to a
-- ledger of which this one is an older copy, or to another ledger. So they are not orphans of this ledger.
CREATE OR REPLACE FUNCTION validation.find_unknown_chunks(p_chunks uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT given.chunk_id FROM unnest(p_chunks) AS given (chunk_id)
    WHERE NOT EXISTS (SELECT FROM public.validation_chunks c WHERE c.chunk_id = given.chunk_id);
$$;

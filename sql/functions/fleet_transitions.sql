-- fleet_transitions: the state changes that a box may make. fleet_transition refuses every other.
CREATE OR REPLACE FUNCTION validation.fleet_transitions() RETURNS TABLE (from_state text, to_state text)
LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    VALUES ('requested',  'renting'),     -- the vendor answered with its id, or a listing shows its label
           ('requested',  'destroying'),  -- the vendor refused the request and named an instance
           ('requested',  'gone'),        -- refused, or absent from three complete listings
           ('renting',    'working'),     -- its worker heartbeats
           ('renting',    'destroying'),  -- it failed, or is surplus
           ('working',    'draining'),    -- it is surplus
           ('working',    'destroying'),  -- it failed
           ('draining',   'destroying'),  -- it holds no chunk, or took too long
           ('destroying', 'destroyed'),   -- the vendor confirmed
           ('destroyed',  'destroying'),  -- a later listing still shows it
           ('destroyed',  'gone');        -- absent from two complete listings
$$;

-- fleet_transitions: the ways that a machine may go. The table is the law: fleet_transition refuses every other way.
CREATE OR REPLACE FUNCTION validation.fleet_transitions() RETURNS TABLE (from_state text, to_state text)
LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    VALUES ('requested',  'renting'),     -- its id is known: the vendor said so, or a listing shows its label
           ('requested',  'destroying'),  -- the vendor refused, and yet named an instance
           ('requested',  'gone'),        -- refused, or in none of three complete listings
           ('renting',    'working'),     -- its worker heartbeats
           ('renting',    'destroying'),  -- it failed, or is not wanted any more
           ('working',    'draining'),    -- not wanted any more
           ('working',    'destroying'),  -- it failed
           ('draining',   'destroying'),  -- it holds no chunk, or took too long
           ('destroying', 'destroyed'),   -- the vendor agreed
           ('destroyed',  'destroying'),  -- a later listing shows it still
           ('destroyed',  'gone');        -- in none of two complete listings
$$;

-- fleet_now: the clock of the fleet's books. A simulated day replaces this one function in a database of its own.
CREATE OR REPLACE FUNCTION validation.fleet_now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    SELECT now();
$$;

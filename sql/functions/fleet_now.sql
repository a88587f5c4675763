-- fleet_now: the fleet's clock. A simulation replaces this one function in its own database.
CREATE OR REPLACE FUNCTION validation.fleet_now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT now();
$$;

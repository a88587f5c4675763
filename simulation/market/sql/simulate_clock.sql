-- simulate_clock: make every function, view and default of a ledger read a simulated clock instead of now(). Only for
-- simulations, in a database of their own.
CREATE TABLE validation.simulated_clock (at timestamptz NOT NULL);
INSERT INTO validation.simulated_clock VALUES ('epoch');
GRANT SELECT ON validation.simulated_clock TO PUBLIC;  -- functions of any owner read it

CREATE OR REPLACE FUNCTION validation.fleet_now() RETURNS timestamptz
LANGUAGE sql STABLE SECURITY DEFINER AS $$ SELECT at FROM validation.simulated_clock $$;

DO $body$
DECLARE
    v_found record;
BEGIN
    FOR v_found IN
        SELECT regexp_replace(pg_get_functiondef(p.oid), '\mnow\(\)', 'validation.fleet_now()', 'g') AS statement
        FROM pg_proc p
        WHERE p.pronamespace = 'validation'::regnamespace AND p.prosrc ~ '\mnow\(\)'
        UNION ALL
        SELECT format('CREATE OR REPLACE VIEW validation.%I AS %s', v.viewname,
                      regexp_replace(v.definition, '\mnow\(\)', 'validation.fleet_now()', 'g'))
        FROM pg_views v
        WHERE v.schemaname = 'validation' AND v.definition ~ '\mnow\(\)'
        UNION ALL
        SELECT format('ALTER TABLE %I.%I ALTER COLUMN %I SET DEFAULT validation.fleet_now()',
                      c.table_schema, c.table_name, c.column_name)
        FROM information_schema.columns c
        WHERE c.column_default = 'now()' AND c.table_schema = ANY (ARRAY['public', 'validation', current_schema()])
    LOOP
        EXECUTE v_found.statement;
    END LOOP;
END
$body$;

-- schema_revision: which migration this database stands at, for code that must know before it writes.
CREATE OR REPLACE FUNCTION validation.schema_revision() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    SELECT version_num FROM validation.alembic_version;
$$;

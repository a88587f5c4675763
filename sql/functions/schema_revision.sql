-- schema_revision: the migration at which this database stands.
CREATE OR REPLACE FUNCTION validation.schema_revision() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT version_num FROM validation.alembic_version;
$$;

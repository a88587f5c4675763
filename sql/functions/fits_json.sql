-- fits_json: whether a JSON value fits one of check_json's shapes that hold no others, such as "text?".
-- Without SECURITY DEFINER and SET, so that the planner inlines it.
CREATE OR REPLACE FUNCTION validation.fits_json(p_value jsonb, p_shape text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE jsonb_typeof(p_value)
        WHEN 'string'  THEN p_shape IN ('text', 'text?') AND length(p_value #>> '{}') <= 10000
        WHEN 'number'  THEN CASE rtrim(p_shape, '?')
            WHEN 'number'   THEN p_value::numeric BETWEEN 0 AND 1e9
            WHEN 'count'    THEN p_value::numeric BETWEEN 0 AND 1e9  AND p_value::numeric % 1 = 0
            WHEN 'positive' THEN p_value::numeric BETWEEN 1 AND 1e10 AND p_value::numeric % 1 = 0
            ELSE false END
        WHEN 'boolean' THEN p_shape IN ('boolean', 'boolean?')
        WHEN 'array'   THEN false
        WHEN 'object'  THEN false
        ELSE p_shape LIKE '%?'
    END
$$;

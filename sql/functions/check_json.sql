-- check_json: refuse a JSON value of another shape than expected, before anything reads it. Every JSON argument of a
-- function that boxes call passes here. p_shape is one of
--   "text", "boolean", "number" (from 0 to 10^9), "count" (a whole number from 0 to 10^9), "positive" (a whole
--   number from 1 to 10^10), each with "?" at its end if null or nothing will do;
--   [shape]: a list; {"*": shape}: an object of any keys; {"key": shape, ...}: an object, whose other keys are ignored.
-- A text may hold 10,000 characters, a list or an object 1,000 items: more than any chunk has.
-- Raises VF002, naming the place.
CREATE OR REPLACE FUNCTION validation.check_json(p_place text, p_value jsonb, p_shape jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_type  text    := jsonb_typeof(p_value);
    v_shape text    := rtrim(p_shape #>> '{}', '?');
    v_fits  boolean := false;
    v_item  record;
BEGIN
    IF jsonb_typeof(p_shape) = 'string' THEN
        IF v_type = 'number' THEN
            v_fits := v_shape IN ('number', 'count', 'positive')
                AND (p_value::numeric BETWEEN (v_shape = 'positive')::integer
                                      AND (CASE v_shape WHEN 'positive' THEN 1e10 ELSE 1e9 END))
                AND (v_shape = 'number' OR p_value::numeric % 1 = 0);
        ELSIF v_type = 'string' THEN
            v_fits := v_shape = 'text' AND length(p_value #>> '{}') <= 10000;
        ELSIF v_type = 'boolean' THEN
            v_fits := v_shape = 'boolean';
        ELSE
            v_fits := coalesce(v_type, 'null') = 'null' AND p_shape #>> '{}' LIKE '%?';
        END IF;
    ELSIF v_type = jsonb_typeof(p_shape) THEN
        IF v_type = 'array' THEN
            v_fits := jsonb_array_length(p_value) <= 1000;
        ELSE
            v_fits := (SELECT count(*) FROM jsonb_object_keys(p_value)) <= 1000;
        END IF;
    END IF;
    IF NOT v_fits THEN
        RAISE EXCEPTION '%: % is not %', p_place, left(coalesce(p_value::text, 'nothing'), 100), left(p_shape::text, 100)
            USING ERRCODE = 'VF002';
    ELSIF jsonb_typeof(p_shape) = 'array' THEN
        FOR v_item IN SELECT e.value, e.place FROM jsonb_array_elements(p_value) WITH ORDINALITY e (value, place) LOOP
            PERFORM check_json(format('%s[%s]', p_place, v_item.place - 1), v_item.value, p_shape -> 0);
        END LOOP;
    ELSIF p_shape ? '*' THEN
        FOR v_item IN SELECT e.key, e.value FROM jsonb_each(p_value) e LOOP
            PERFORM check_json(format('%s.%s', p_place, left(v_item.key, 50)), v_item.value, p_shape -> '*');
        END LOOP;
    ELSIF jsonb_typeof(p_shape) = 'object' THEN
        FOR v_item IN SELECT e.key, e.value FROM jsonb_each(p_shape) e LOOP
            PERFORM check_json(format('%s.%s', p_place, v_item.key), p_value -> v_item.key, v_item.value);
        END LOOP;
    END IF;
END
$$;

-- check_json: refuse a JSON value of another shape than expected, before anything reads it. Every JSON argument of a
-- function that boxes call passes here. p_shape is one of
--   "text", "boolean", "number" (from 0 to 10^9), "count" (a whole number from 0 to 10^9), "positive" (a whole
--   number from 1 to 10^10), each with "?" at its end if null or nothing will do (see fits_json);
--   {"*": "text"}: an object of any keys; {"key": shape, ...}: an object, whose other keys are ignored;
--   [{"key": "text", ...}]: a list of objects, which hold no objects.
-- A text may hold 10,000 characters, a list or an object 1,000 items: more than any chunk has.
-- One statement checks all values of a list: a call per value would cost more than the rest of a commit.
-- Raises VF002, naming the place.
CREATE OR REPLACE FUNCTION validation.check_json(p_place text, p_value jsonb, p_shape jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
DECLARE
    v_is_list boolean := jsonb_typeof(p_shape) = 'array';
    v_fields  jsonb   := CASE WHEN v_is_list THEN p_shape -> 0 ELSE p_shape END;
    v_misfit  record;
    v_nested  record;
BEGIN
    IF jsonb_typeof(p_value) IS DISTINCT FROM jsonb_typeof(p_shape)
       OR (CASE WHEN v_is_list THEN jsonb_array_length(p_value)
                ELSE (SELECT count(*) FROM jsonb_object_keys(p_value)) END) > 1000 THEN
        RAISE EXCEPTION '%: % is not %', p_place, left(coalesce(p_value::text, 'nothing'), 100), left(p_shape::text, 100)
            USING ERRCODE = 'VF002';
    ELSIF v_fields ? '*' THEN
        v_fields := (SELECT jsonb_object_agg(k, v_fields -> '*') FROM jsonb_object_keys(p_value) k);
    END IF;

    SELECT item.place, item.value, field.key, field.shape INTO v_misfit
    FROM jsonb_array_elements(CASE WHEN v_is_list THEN p_value ELSE jsonb_build_array(p_value) END)
         WITH ORDINALITY item (value, place)
    CROSS JOIN jsonb_each_text(v_fields) field (key, shape)
    WHERE jsonb_typeof(item.value) <> 'object'
       OR NOT fits_json(item.value -> field.key, field.shape) AND jsonb_typeof(v_fields -> field.key) = 'string'
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION '%.%: % is not %', p_place || CASE WHEN v_is_list THEN format('[%s]', v_misfit.place - 1) ELSE '' END,
            left(v_misfit.key, 50), left(coalesce((v_misfit.value -> v_misfit.key)::text, 'nothing'), 100),
            to_jsonb(v_misfit.shape) USING ERRCODE = 'VF002';
    END IF;
    FOR v_nested IN SELECT f.key, f.value FROM jsonb_each(v_fields) f WHERE jsonb_typeof(f.value) = 'object' LOOP
        PERFORM check_json(format('%s.%s', p_place, v_nested.key), p_value -> v_nested.key, v_nested.value);
    END LOOP;
END
$$;

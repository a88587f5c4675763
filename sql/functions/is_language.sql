-- is_language: whether a language label of the queue is one of p_spellings: codes and names in lower case, which the
-- caller takes from the table that scoring uses (validation/languages.py). Case, blanks, region and script (hi-IN,
-- hi_Deva, Hindi (India)) do not matter. Without SECURITY DEFINER and SET, so that the planner inlines it.
CREATE OR REPLACE FUNCTION validation.is_language(p_label text, p_spellings text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT CASE WHEN octet_length(p_label) < 4  -- a code, as nearly all labels are: twice as fast
        THEN lower(rtrim(btrim(p_label), '-_') COLLATE "C") = ANY (p_spellings)
        ELSE lower(split_part(split_part(translate(btrim(p_label), '_', '-'), '-', 1), ' (', 1)) = ANY (p_spellings)
          OR lower(btrim(p_label)) = ANY (p_spellings)
        END
$$;

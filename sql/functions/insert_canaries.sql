-- insert_canaries: record canaries with their answers, before their videos are entered into the queue. An id that is in
-- the queue already belongs to a real video and is left alone. Returns the ids that were recorded.
-- p_canaries: [{video_id, answers: [{verdict, signals}]}], as p_models of p_suite answered; p_basis: what the answers
-- depend on besides the models.
CREATE OR REPLACE FUNCTION validation.insert_canaries(p_suite text, p_models jsonb, p_basis jsonb, p_canaries jsonb)
RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
    INSERT INTO canaries AS entered (video_id, suite, models, basis, answers)
    SELECT c ->> 'video_id', p_suite, p_models, p_basis, c -> 'answers'
    FROM jsonb_array_elements(p_canaries) c
    WHERE NOT EXISTS (SELECT FROM public.video_queue q WHERE q.video_id = c ->> 'video_id')
    ON CONFLICT DO NOTHING
    RETURNING entered.video_id;
$$;

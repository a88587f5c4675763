-- insert_canaries: enter videos with known answers, before they are entered into the queue. One that is in the queue
-- already is somebody's video, and left alone. Returns the ids that were entered.
-- p_canaries: [{video_id, answers: [{verdict, signals}]}], the answers by p_models of p_suite; p_basis: what they depend
-- on beside these.
CREATE OR REPLACE FUNCTION validation.insert_canaries(p_suite text, p_models jsonb, p_basis jsonb, p_canaries jsonb)
RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp SET lock_timeout = '5s'
AS $$
    INSERT INTO canaries AS entered (video_id, suite, models, basis, answers)
    SELECT c ->> 'video_id', p_suite, p_models, p_basis, c -> 'answers'
    FROM jsonb_array_elements(p_canaries) c
    WHERE NOT EXISTS (SELECT FROM video_queue q WHERE q.video_id = c ->> 'video_id')
    ON CONFLICT DO NOTHING
    RETURNING entered.video_id;
$$;

-- find_unknown_videos: those of the given ids that the queue does not have.
CREATE OR REPLACE FUNCTION validation.find_unknown_videos(p_video_ids text[]) RETURNS SETOF text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT DISTINCT given.video_id FROM unnest(p_video_ids) AS given (video_id)
    WHERE NOT EXISTS (SELECT FROM public.video_queue q WHERE q.video_id = given.video_id)
    ORDER BY 1;
$$;

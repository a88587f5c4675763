-- sample_videos: up to p_count random transcribed videos of some languages, which are spelled as in the queue. They are
-- the patterns of new canaries. No canary is among them.
CREATE OR REPLACE FUNCTION validation.sample_videos(p_languages text[], p_count integer)
RETURNS TABLE (video_id text, language text, segment_count integer)
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    SELECT q.video_id, q.language, q.segment_count
    FROM public.video_queue q
    WHERE q.status = 'done' AND q.language = ANY (p_languages)
      AND NOT EXISTS (SELECT FROM canaries c WHERE c.video_id = q.video_id)
    ORDER BY random()
    LIMIT p_count;
$$;

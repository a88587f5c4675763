-- sample_videos: up to p_count transcribed videos of some languages, as the queue spells them, drawn at random: what a
-- canary imitates. Canaries are not drawn.
CREATE OR REPLACE FUNCTION validation.sample_videos(p_languages text[], p_count integer)
RETURNS TABLE (video_id text, language text, segment_count integer)
LANGUAGE sql SECURITY DEFINER SET search_path = validation, public, pg_temp
AS $$
    SELECT q.video_id, q.language, q.segment_count
    FROM video_queue q
    WHERE q.status = 'done' AND q.language = ANY (p_languages)
      AND NOT EXISTS (SELECT FROM canaries c WHERE c.video_id = q.video_id)
    ORDER BY random()
    LIMIT p_count;
$$;

-- seed_videos: insert transcribed videos; rows with the same id stay as they are.
-- :videos is a JSON list of {video_id, language, segment_count}. The row count is that of the new rows.
INSERT INTO public.video_queue (video_id, status, language, segment_count)
SELECT v.video_id, 'done', v.language, v.segment_count
FROM jsonb_to_recordset(CAST(:videos AS jsonb)) AS v (video_id text, language text, segment_count integer)
ON CONFLICT (video_id) DO NOTHING

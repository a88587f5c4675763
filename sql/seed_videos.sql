-- seed_videos: enter transcribed videos, leaving those alone that are there already.
-- :videos is a JSON list of {video_id, language, segment_count}. Returns the count of new rows.
INSERT INTO video_queue (video_id, status, language, segment_count)
SELECT v.video_id, 'done', v.language, v.segment_count
FROM jsonb_to_recordset(CAST(:videos AS jsonb)) AS v (video_id text, language text, segment_count integer)
ON CONFLICT (video_id) DO NOTHING

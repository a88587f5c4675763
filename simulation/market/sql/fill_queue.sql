-- fill_queue: make so many videos pending or claimed, by inserting new ones or deleting pending ones.
WITH there AS (
    SELECT count(*) AS videos, coalesce(max(substr(video_id, 2)::integer), 0) AS last
    FROM video_queue
), undone AS (
    SELECT count(*) AS videos FROM video_queue WHERE validation_status IN ('pending', 'validating')
), dropped AS (
    DELETE FROM video_queue q
    WHERE q.video_id IN (SELECT w.video_id FROM video_queue w WHERE w.validation_status = 'pending'
                         LIMIT (SELECT greatest(0, u.videos - :videos) FROM undone u))
)
INSERT INTO video_queue (video_id, status, language, segment_count)
SELECT 'v' || t.last + n, 'done', 'hi', :segments
FROM there t, undone u, generate_series(1, greatest(0, :videos - u.videos)::integer) n;

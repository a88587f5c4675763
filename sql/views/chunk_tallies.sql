-- chunk_tallies: what the holders of committed chunks counted of the videos that stand validated: of each by the last
-- chunk that counted it (one that asked some models only counts nothing), and of no canary, whose audio is nobody's. A
-- chunk counts by the share of its segments that is left. One row a chunk that counted.
-- Canaries are taken off again at the end: the queue is grouped whole, and no video of it is looked up elsewhere.
CREATE OR REPLACE VIEW validation.chunk_tallies AS
WITH validated AS (
    SELECT q.validation_chunk AS chunk_id, sum(q.validation_segments) AS segments
    FROM video_queue q
    WHERE q.validation_status = 'validated'
    GROUP BY 1
), canaries AS (
    SELECT q.validation_chunk AS chunk_id, -q.validation_segments AS segments
    FROM validation.canaries n
    JOIN video_queue q USING (video_id)
    WHERE q.validation_status = 'validated'
), counted_before AS (
    SELECT DISTINCT ON (q.video_id) c.chunk_id, before.segments
    FROM validation_chunks silent
    JOIN validation_results own    ON own.shard_key = silent.shard_key
    JOIN video_queue q             ON q.video_id = own.video_id AND q.validation_chunk = silent.chunk_id
    JOIN validation_results before ON before.video_id = q.video_id
    JOIN validation_chunks c       ON c.shard_key = before.shard_key AND c.audio_s IS NOT NULL
    WHERE silent.state = 'committed' AND silent.audio_s IS NULL AND q.validation_status = 'validated'
      AND NOT EXISTS (SELECT FROM validation.canaries n WHERE n.video_id = q.video_id)
    ORDER BY q.video_id, c.closed_at DESC
), stands AS (
    SELECT chunk_id, sum(segments) AS segments
    FROM (
        SELECT * FROM validated UNION ALL SELECT * FROM canaries UNION ALL SELECT * FROM counted_before
    ) shares
    GROUP BY chunk_id
)
SELECT c.chunk_id,
       c.audio_s * left_of.share           AS audio_s,
       c.segments_accepted * left_of.share AS accepted,
       c.segments_review * left_of.share   AS review,
       c.segments_rejected * left_of.share AS rejected
FROM stands
JOIN validation_chunks c ON c.chunk_id = stands.chunk_id AND c.audio_s IS NOT NULL
CROSS JOIN LATERAL (SELECT coalesce(stands.segments / nullif(c.segments, 0)::double precision, 0) AS share) left_of;

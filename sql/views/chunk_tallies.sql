-- chunk_tallies: the audio and the verdicts of committed chunks, for the videos that are validated now. One row per
-- chunk that counted audio and verdicts; a chunk that asked only some models counted none. A video belongs to the last
-- chunk that counted it. The counts of a chunk are multiplied by the share of its segments whose videos still belong to
-- it. Canaries do not count. They are subtracted at the end, so that the queue is grouped without a lookup per video.
CREATE OR REPLACE VIEW validation.chunk_tallies AS
WITH validated AS (
    SELECT q.validation_chunk AS chunk_id, sum(q.validation_segments) AS segments
    FROM public.video_queue q
    WHERE q.validation_status = 'validated'
    GROUP BY 1
), canaries AS (
    SELECT q.validation_chunk AS chunk_id, -q.validation_segments AS segments
    FROM validation.canaries n
    JOIN public.video_queue q USING (video_id)
    WHERE q.validation_status = 'validated'
), counted_before AS (
    SELECT DISTINCT ON (q.video_id) c.chunk_id, before.segments
    FROM public.validation_chunks uncounted
    JOIN public.validation_results own    ON own.shard_key = uncounted.shard_key
    JOIN public.video_queue q             ON q.video_id = own.video_id AND q.validation_chunk = uncounted.chunk_id
    JOIN public.validation_results before ON before.video_id = q.video_id
    JOIN public.validation_chunks c       ON c.shard_key = before.shard_key AND c.audio_s IS NOT NULL
    WHERE uncounted.state = 'committed' AND uncounted.audio_s IS NULL AND q.validation_status = 'validated'
      AND NOT EXISTS (SELECT FROM validation.canaries n WHERE n.video_id = q.video_id)
    ORDER BY q.video_id, c.closed_at DESC
), remaining AS (
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
FROM remaining
JOIN public.validation_chunks c ON c.chunk_id = remaining.chunk_id AND c.audio_s IS NOT NULL
CROSS JOIN LATERAL (SELECT coalesce(remaining.segments / nullif(c.segments, 0)::double precision, 0) AS share) left_of;

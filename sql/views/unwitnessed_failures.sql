-- unwitnessed_failures: pending videos that boxes of exactly one owner have failed. A failure becomes final when a box
-- of another owner fails the video too, or when the control plane finds the object unusable. is_refuted: the control
-- plane has read the object without an error, and only a box of another owner can confirm the failure.
CREATE OR REPLACE VIEW validation.unwitnessed_failures AS
SELECT q.video_id, q.language, q.segment_count, q.validation_error AS error, q.validation_witness AS owner,
       max(d.decided_at) AS failed_at, bool_and(d.refuted_at IS NOT NULL) AS is_refuted
FROM public.video_queue q
JOIN validation.box_decisions d ON d.video_id = q.video_id AND d.owner = q.validation_witness
                               AND d.kind IN ('failed', 'crash')
WHERE q.validation_status = 'pending' AND q.validation_witness IS NOT NULL
GROUP BY q.video_id
ORDER BY failed_at, q.video_id;

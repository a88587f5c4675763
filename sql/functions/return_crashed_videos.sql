-- return_crashed_videos: put the videos of a dead chunk back into the queue, and count a crash or a loss for each
-- video. p_is_crash: the flow process died while its worker lived on. Otherwise the whole box was lost, which says
-- little about its videos: each video counts a loss, and only the fourth loss since the last crash counts as a crash.
-- So a video that kills whole boxes is found too, and is claimed alone before it fails.
-- The attempt of the claim is taken back: a video that shares a chunk with a poisonous video loses no attempt (see
-- pick_crash_suspects). A video fails after p_max_crashes crashes. If boxes of one owner with a key reported all of its
-- crashes and failures, and a box of another owner is online, the video first waits for that box as second witness.
-- Returns how many videos went back and how many failed.
CREATE OR REPLACE FUNCTION validation.return_crashed_videos(p_chunk uuid, p_is_crash boolean, p_max_crashes integer)
RETURNS TABLE (returned integer, failed integer)
LANGUAGE sql SECURITY DEFINER SET search_path = validation, pg_temp
AS $$
    WITH holder AS (
        SELECT c.worker_id, c.instance_label, box_owner(c.worker_id) AS owner
        FROM public.validation_chunks c WHERE c.chunk_id = p_chunk
    ), held AS (
        SELECT q.video_id, q.validation_crashes, q.validation_losses,
               p_is_crash OR q.validation_losses >= 3 AS is_crash
        FROM public.video_queue q
        WHERE q.validation_chunk = p_chunk AND q.validation_status = 'validating'
        FOR NO KEY UPDATE
    ), counted AS (
        SELECT h.video_id, h.is_crash,
               h.validation_crashes + h.is_crash::integer                    AS crashes,
               CASE WHEN h.is_crash THEN 0 ELSE h.validation_losses + 1 END AS losses
        FROM held h
    ), logged AS (
        INSERT INTO box_decisions (worker_id, instance_label, owner, chunk_id, video_id, kind, cost)
        SELECT o.worker_id, o.instance_label, o.owner, p_chunk, c.video_id,
               CASE WHEN c.is_crash THEN 'crash' ELSE 'loss' END, 1
        FROM counted c CROSS JOIN holder o
    ), decided AS (
        SELECT c.*, o.owner,
               c.crashes >= p_max_crashes AND NOT (
                   o.owner IS NOT NULL AND has_other_owner(o.owner) AND NOT EXISTS (
                       SELECT FROM box_decisions d
                       WHERE d.video_id = c.video_id AND d.kind IN ('failed', 'crash') AND d.owner <> o.owner)) AS fails
        FROM counted c CROSS JOIN holder o
    ), touched AS (
        UPDATE public.video_queue q
        SET validation_status   = CASE WHEN c.fails THEN 'validation_failed' ELSE 'pending' END,
            validation_chunk    = CASE WHEN c.fails THEN p_chunk END,
            validation_error    = CASE WHEN c.fails THEN format('poison: its process died %s times', c.crashes)
                                       ELSE q.validation_error END,
            validation_attempts = q.validation_attempts - 1,
            validation_crashes  = c.crashes,
            validation_losses   = c.losses,
            validation_witness  = CASE WHEN c.crashes >= p_max_crashes THEN coalesce(q.validation_witness, c.owner)
                                       ELSE q.validation_witness END,
            claimed_by          = NULL
        FROM decided c
        WHERE q.video_id = c.video_id
        RETURNING q.validation_status
    )
    SELECT count(*) FILTER (WHERE validation_status = 'pending')::integer,
           count(*) FILTER (WHERE validation_status = 'validation_failed')::integer
    FROM touched;
$$;

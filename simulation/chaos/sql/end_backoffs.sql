-- end_backoffs: end the back-off of every pending video. For chaos runs only.
UPDATE video_queue q
SET validation_not_before = 'epoch'
WHERE q.validation_status = 'pending' AND q.validation_not_before > now();

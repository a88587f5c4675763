-- end_backoffs: edit time, for the chaos run alone: what waits for another attempt has waited long enough.
UPDATE video_queue q
SET validation_not_before = 'epoch'
WHERE q.validation_status = 'pending' AND q.validation_not_before > now();

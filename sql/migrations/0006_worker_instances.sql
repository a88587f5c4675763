-- The worker's own calls name its instance from here on. Functions are created anew after every migration; the
-- earlier signatures would stand beside them.
DROP FUNCTION IF EXISTS validation.heartbeat_worker(text, text, text);
DROP FUNCTION IF EXISTS validation.drain_worker(text);
DROP FUNCTION IF EXISTS validation.retire_worker(text);

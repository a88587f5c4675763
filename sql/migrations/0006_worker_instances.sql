-- The worker's own calls have a parameter for its instance from here on. Functions are created anew after every
-- migration, and the earlier signatures would remain beside them.
DROP FUNCTION IF EXISTS validation.heartbeat_worker(text, text, text);
DROP FUNCTION IF EXISTS validation.drain_worker(text);
DROP FUNCTION IF EXISTS validation.retire_worker(text);

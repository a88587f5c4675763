-- A claim returns the crashes of each video from here on. Functions are created anew after every migration, and one that
-- returns other columns cannot be replaced.
DROP FUNCTION IF EXISTS validation.claim_chunk(uuid, text, uuid, integer, text[], integer, text);

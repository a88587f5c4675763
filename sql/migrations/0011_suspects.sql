-- A claim says from here on how often each video's process has died under it. Functions are created anew after every
-- migration, and one whose answer has another shape cannot be replaced.
DROP FUNCTION IF EXISTS validation.claim_chunk(uuid, text, uuid, integer, text[], integer, text);

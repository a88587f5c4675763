-- `fleet down --now` is recorded, so that every later tick acts on it.
SET LOCAL lock_timeout = '5s';

ALTER TABLE fleets
    ADD COLUMN IF NOT EXISTS abandoned boolean NOT NULL DEFAULT false,  -- destroy without draining, until the next order
    DROP CONSTRAINT IF EXISTS fleets_abandoned_wants_none,
    ADD CONSTRAINT fleets_abandoned_wants_none CHECK (NOT abandoned OR machines = 0);

-- It has one more parameter from here on. The earlier signature would remain beside it.
DROP FUNCTION IF EXISTS validation.fleet_dismiss(text);

-- What the last tick of each fleet said, for operators who look between two ticks.
SET LOCAL lock_timeout = '5s';

ALTER TABLE fleets ADD COLUMN IF NOT EXISTS last_tick_at timestamptz;
ALTER TABLE fleets ADD COLUMN IF NOT EXISTS last_tick text[] NOT NULL DEFAULT '{}';

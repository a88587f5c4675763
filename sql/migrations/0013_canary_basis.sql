-- What the right answers depend on besides the models: {rules_version, normalisation_version, policy}. A canary without
-- it is inconclusive for every box, because its answers cannot be compared.
SET LOCAL lock_timeout = '5s';

ALTER TABLE validation.canaries ADD COLUMN IF NOT EXISTS basis jsonb NOT NULL DEFAULT '{}';

-- It has one more parameter from here on.
DROP FUNCTION IF EXISTS validation.plant_canaries(text, jsonb, jsonb);

-- What the right answers depend on beside the models: {rules_version, normalisation_version, policy}. A canary without
-- it is moot to everybody: nobody can say that it was asked alike.
SET LOCAL lock_timeout = '5s';

ALTER TABLE validation.canaries ADD COLUMN IF NOT EXISTS basis jsonb NOT NULL DEFAULT '{}';

-- plant_canaries takes one parameter more from here on.
DROP FUNCTION IF EXISTS validation.plant_canaries(text, jsonb, jsonb);

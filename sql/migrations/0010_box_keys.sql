-- Box keys and the credentials issued to boxes. In the schema that no public API exposes, and granted to no role: only
-- functions read and write them.
CREATE TABLE IF NOT EXISTS validation.box_keys (
    worker_id  text PRIMARY KEY,
    label      text REFERENCES fleet_instances,  -- the rented box; null: a box outside the fleet
    key_sha256 bytea NOT NULL CHECK (length(key_sha256) = 32),
    issued_at  timestamptz NOT NULL DEFAULT now()
);

-- Temporary credentials of the object store, each for one prefix. They are not encrypted: a login that can read this
-- table can change every other one, and those in yesterday's backup have expired.
CREATE TABLE IF NOT EXISTS validation.lent_credentials (
    worker_id         text NOT NULL REFERENCES validation.box_keys ON DELETE CASCADE,
    store             text NOT NULL CHECK (store IN ('source', 'results')),
    access_key_id     text NOT NULL,
    secret_access_key text NOT NULL,
    session_token     text NOT NULL,
    lent_at           timestamptz NOT NULL,
    expires_at        timestamptz NOT NULL CHECK (expires_at > lent_at),
    PRIMARY KEY (worker_id, store)
);

ALTER TABLE validation.box_keys         ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.lent_credentials ENABLE ROW LEVEL SECURITY;

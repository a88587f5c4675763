-- What a rented machine is known by, and what it was lent. In the schema that no public API shows, and granted to
-- nobody: functions alone read and write it.
CREATE TABLE IF NOT EXISTS validation.box_keys (
    worker_id  text PRIMARY KEY,
    label      text REFERENCES fleet_instances,  -- the rented machine; null: a machine that nobody rented
    key_sha256 bytea NOT NULL CHECK (length(key_sha256) = 32),
    issued_at  timestamptz NOT NULL DEFAULT now()
);

-- Credentials of the object store, for hours and for one prefix. They stand here as they are: who can read this table
-- can change every other one, and in a backup of yesterday they have ended.
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

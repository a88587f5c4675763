-- The rented boxes. Money is numeric, in US dollars, and never rounded.

-- One row per fleet: what the operator orders, and which reconciler may act on it now.
CREATE TABLE IF NOT EXISTS fleets (
    fleet            text PRIMARY KEY CHECK (fleet ~ '^[a-z0-9][a-z0-9-]{0,30}$'),
    -- The labels of the fleet's boxes begin so. Part of it is random: a fleet of the same name in another ledger has
    -- another prefix.
    label_prefix     text NOT NULL UNIQUE,
    machines         integer NOT NULL CHECK (machines >= 0),
    max_usd_per_hour numeric NOT NULL CHECK (max_usd_per_hour >= 0),
    max_usd          numeric NOT NULL CHECK (max_usd >= 0),  -- for all that this fleet ever rents
    order_json       jsonb NOT NULL,                         -- what is ordered: filter, image, price per box
    changed_at       timestamptz NOT NULL,
    turn_holder      uuid,                                   -- the reconciler that may rent now
    turn_ends_at     timestamptz,
    searched_at      timestamptz,
    searches_today   integer NOT NULL DEFAULT 0 CHECK (searches_today >= 0),
    CONSTRAINT fleets_turn_has_an_end CHECK ((turn_holder IS NULL) = (turn_ends_at IS NULL))
);

-- One row per box, written before the request that rents it.
CREATE TABLE IF NOT EXISTS fleet_instances (
    label               text PRIMARY KEY,
    fleet               text NOT NULL REFERENCES fleets,
    slot                integer NOT NULL CHECK (slot >= 1),
    worker_id           text NOT NULL,
    state               text NOT NULL DEFAULT 'requested',
    offer_id            bigint NOT NULL,
    machine_id          bigint NOT NULL,
    host_id             bigint NOT NULL,
    gpu_name            text NOT NULL,
    usd_per_hour        numeric NOT NULL CHECK (usd_per_hour >= 0),  -- GPU, disk and expected traffic
    usd_once            numeric NOT NULL CHECK (usd_once >= 0),      -- traffic of the first pull
    boot_within_s       integer NOT NULL CHECK (boot_within_s > 0),  -- from the request to a running container
    instance_id         bigint UNIQUE,                               -- the vendor's
    requested_at        timestamptz NOT NULL,
    changed_at          timestamptz NOT NULL,                        -- when the state last changed
    vendor_status       text,                                        -- as the vendor lists it; no proof of work
    vendor_status_since timestamptz,
    vendor_message      text,
    last_seen_at        timestamptz,
    absences            integer NOT NULL DEFAULT 0 CHECK (absences >= 0),  -- complete listings without it, 30 s apart
    last_absence_at     timestamptz,
    first_running_at    timestamptz,
    accepted_at         timestamptz,
    slow_since          timestamptz,
    reason              text,                                        -- why it leaves or left
    billed_until        timestamptz,                                 -- null: may still be billed
    closed_at           timestamptz,
    CONSTRAINT fleet_instances_state_is_known CHECK (state IN (
        'requested',   -- requested, or about to be; the answer or complete listings change it
        'renting',     -- the vendor has it; becomes working by a heartbeat, or is destroyed
        'working',     -- its worker sends heartbeats; the plan drains or destroys it
        'draining',    -- takes no new chunk; destroyed when it holds none, or after a while
        'destroying',  -- to be destroyed; every tick repeats the request until the vendor confirms
        'destroyed',   -- the vendor confirmed; two complete listings without it close it
        'gone'         -- closed: billed no more
    )),
    CONSTRAINT fleet_instances_rented_has_an_id CHECK (state IN ('requested', 'gone') OR instance_id IS NOT NULL),
    CONSTRAINT fleet_instances_accepted_before_work CHECK (state <> 'working' OR accepted_at IS NOT NULL),
    CONSTRAINT fleet_instances_leaves_for_a_reason CHECK (state IN ('requested', 'renting', 'working') OR reason IS NOT NULL),
    CONSTRAINT fleet_instances_closed_iff_gone CHECK (
        (state = 'gone') = (closed_at IS NOT NULL) AND (closed_at IS NULL OR billed_until IS NOT NULL))
);

-- ensures that no slot has two boxes; for fleet_request
CREATE UNIQUE INDEX IF NOT EXISTS fleet_instances_one_a_slot ON fleet_instances (fleet, slot) WHERE state <> 'gone';
-- an offer is requested once: two requests for it may both be accepted, and one box fail later
CREATE UNIQUE INDEX IF NOT EXISTS fleet_instances_one_an_offer ON fleet_instances (offer_id)
    WHERE state <> 'gone';
-- for rented_instances and fleet_budget
CREATE INDEX IF NOT EXISTS fleet_instances_recent ON fleet_instances (fleet, closed_at);

-- The vendor's machines and hosts that are not rented for a while, and why.
CREATE TABLE IF NOT EXISTS fleet_blacklist (
    kind       text NOT NULL CHECK (kind IN ('machine', 'host')),
    vendor_id  bigint NOT NULL,
    reason     text NOT NULL,
    host_id    bigint NOT NULL,   -- the machine's host; the same id for a host
    banned_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > banned_at),
    PRIMARY KEY (kind, vendor_id)
);

-- The account's credit, beside the recorded spend at that time.
CREATE TABLE IF NOT EXISTS fleet_credit_readings (
    fleet      text NOT NULL REFERENCES fleets,
    read_at    timestamptz NOT NULL,
    credit_usd numeric NOT NULL,
    spent_usd  numeric NOT NULL,
    PRIMARY KEY (fleet, read_at)
);

ALTER TABLE fleets                ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_instances       ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_blacklist       ENABLE ROW LEVEL SECURITY;
ALTER TABLE fleet_credit_readings ENABLE ROW LEVEL SECURITY;

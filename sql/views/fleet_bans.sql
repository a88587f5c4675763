-- fleet_bans: the machines and hosts that we do not rent now.
CREATE OR REPLACE VIEW validation.fleet_bans AS
SELECT b.kind, b.vendor_id, b.reason, b.host_id, b.banned_at, b.expires_at
FROM fleet_blacklist b
WHERE b.expires_at > validation.fleet_now()
ORDER BY b.kind, b.vendor_id;

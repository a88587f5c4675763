-- fleet_bans: the vendor's machines and hosts that are banned now.
CREATE OR REPLACE VIEW validation.fleet_bans AS
SELECT b.kind, b.vendor_id, b.reason, b.host_id, b.banned_at, b.expires_at
FROM public.fleet_blacklist b
WHERE b.expires_at > validation.fleet_now()
ORDER BY b.kind, b.vendor_id;

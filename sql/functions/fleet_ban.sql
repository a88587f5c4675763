-- fleet_ban: ban a vendor's machine for p_ttl_s seconds. The third banned machine of one host bans the host for the
-- same time. A later ban never shortens an earlier one.
CREATE OR REPLACE FUNCTION validation.fleet_ban(p_machine bigint, p_host bigint, p_reason text, p_ttl_s integer)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_until timestamptz := fleet_now() + make_interval(secs => p_ttl_s);
BEGIN
    INSERT INTO public.fleet_blacklist AS b (kind, vendor_id, reason, host_id, banned_at, expires_at)
    SELECT 'machine', p_machine, p_reason, p_host, fleet_now(), v_until
    ON CONFLICT (kind, vendor_id) DO UPDATE
    SET reason     = CASE WHEN excluded.expires_at > b.expires_at THEN excluded.reason ELSE b.reason END,
        expires_at = greatest(excluded.expires_at, b.expires_at);

    INSERT INTO public.fleet_blacklist AS b (kind, vendor_id, reason, host_id, banned_at, expires_at)
    SELECT 'host', p_host, format('%s of its machines are banned', count(*)), p_host, fleet_now(), v_until
    FROM public.fleet_blacklist m
    WHERE m.kind = 'machine' AND m.host_id = p_host AND m.expires_at > fleet_now()
    HAVING count(*) >= 3
    ON CONFLICT (kind, vendor_id) DO UPDATE
    SET reason = excluded.reason, expires_at = greatest(excluded.expires_at, b.expires_at);
END
$$;

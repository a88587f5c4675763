-- fleet_lift_ban: lift the ban of a vendor's machine or host. Returns whether there was one.
CREATE OR REPLACE FUNCTION validation.fleet_lift_ban(p_kind text, p_vendor_id bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    DELETE FROM public.fleet_blacklist b
    WHERE b.kind = p_kind AND b.vendor_id = p_vendor_id AND b.expires_at > fleet_now();
    RETURN FOUND;
END
$$;

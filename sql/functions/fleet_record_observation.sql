-- fleet_record_observation: record what one listing of the vendor showed of a fleet's boxes. A box that a complete
-- listing does not show counts as absent; absences count if they are 30 s apart, because a listing lags behind a create
-- by seconds. Listed instances without a row of this fleet are ignored.
-- A listed box is slow while it works below p_slow_share of the median speed of its GPU, if p_min_class_size boxes of
-- that GPU have shown their speed.
CREATE OR REPLACE FUNCTION validation.fleet_record_observation(
    p_fleet          text,
    p_seen           jsonb,    -- a list of {label, instance_id, status, message, usd_per_hour}
    p_complete       boolean,  -- every page was read
    p_slow_share     double precision,
    p_min_class_size integer
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
BEGIN
    WITH speeds AS (
        SELECT r.label, r.gpu_name, r.segments_per_s
        FROM rented_instances r
        WHERE r.fleet = p_fleet AND r.state = 'working' AND r.segments_per_s > 0
    ), medians AS (
        SELECT gpu_name, percentile_cont(0.5) WITHIN GROUP (ORDER BY segments_per_s) AS segments_per_s
        FROM speeds
        GROUP BY gpu_name
        HAVING count(*) >= p_min_class_size
    ), slow AS (
        SELECT s.label
        FROM speeds s
        JOIN medians m USING (gpu_name)
        WHERE s.segments_per_s < p_slow_share * m.segments_per_s
    )
    UPDATE public.fleet_instances i
    SET vendor_status       = s.status,
        vendor_status_since = CASE WHEN i.vendor_status IS DISTINCT FROM s.status OR i.vendor_status_since IS NULL
                                   THEN fleet_now() ELSE i.vendor_status_since END,
        vendor_message      = s.message,
        usd_per_hour        = greatest(i.usd_per_hour, s.usd_per_hour),
        last_seen_at        = fleet_now(),
        absences            = 0,
        last_absence_at     = NULL,
        first_running_at    = CASE WHEN s.status = 'running' THEN coalesce(i.first_running_at, fleet_now())
                                   ELSE i.first_running_at END,
        slow_since          = CASE WHEN i.label IN (SELECT label FROM slow)
                                   THEN coalesce(i.slow_since, fleet_now()) END
    FROM jsonb_to_recordset(p_seen) AS s(label text, instance_id bigint, status text, message text,
                                         usd_per_hour numeric)
    WHERE i.fleet = p_fleet AND i.state <> 'gone' AND i.label = s.label
      AND s.instance_id = coalesce(i.instance_id, s.instance_id);

    UPDATE public.fleet_instances i
    SET absences = i.absences + 1, last_absence_at = fleet_now()
    WHERE p_complete
      AND i.fleet = p_fleet AND i.state <> 'gone'
      AND coalesce(i.last_absence_at, i.changed_at) <= fleet_now() - interval '30 seconds'
      AND NOT EXISTS (SELECT FROM jsonb_to_recordset(p_seen) AS s(label text, instance_id bigint)
                      WHERE s.label = i.label AND s.instance_id = coalesce(i.instance_id, s.instance_id));
END
$$;

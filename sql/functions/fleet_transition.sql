-- fleet_transition: move a box to another state, along one of fleet_transitions. Returns whether the box is in that
-- state now, also if it was before: a call whose answer was lost may be repeated.
CREATE OR REPLACE FUNCTION validation.fleet_transition(
    p_label       text,
    p_to          text,
    p_instance_id bigint DEFAULT NULL,
    p_reason      text   DEFAULT NULL
) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = validation, pg_temp SET lock_timeout = '5s'
AS $$
DECLARE
    v_from   text;
    v_worker text;
BEGIN
    SELECT i.state, i.worker_id INTO v_from, v_worker
    FROM public.fleet_instances i WHERE i.label = p_label FOR NO KEY UPDATE;
    IF v_from = p_to THEN
        RETURN true;
    ELSIF NOT EXISTS (SELECT FROM fleet_transitions() t WHERE t.from_state = v_from AND t.to_state = p_to) THEN
        RETURN false;
    END IF;
    UPDATE public.fleet_instances i
    SET state           = p_to,
        changed_at      = fleet_now(),
        instance_id     = coalesce(i.instance_id, p_instance_id),
        reason          = coalesce(i.reason, p_reason),  -- the first reason given is kept
        absences        = 0,                             -- listings from before say nothing of this state
        last_absence_at = NULL,
        accepted_at     = CASE WHEN p_to = 'working' THEN fleet_now() ELSE i.accepted_at END,
        billed_until    = CASE WHEN p_to IN ('destroyed', 'gone') THEN coalesce(i.billed_until, fleet_now()) END,
        closed_at       = CASE WHEN p_to = 'gone' THEN fleet_now() END
    WHERE i.label = p_label;
    IF p_to = 'draining' THEN
        UPDATE public.worker_validators w SET status = 'draining' WHERE w.worker_id = v_worker AND w.status = 'online';
    ELSIF p_to = 'destroyed' THEN
        PERFORM retire_worker(v_worker);  -- its chunks go back now, not when their leases expire
    END IF;
    RETURN true;
END
$$;

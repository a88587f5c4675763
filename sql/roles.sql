-- Who may do what. Roles carry no password and cannot log in: an operator grants them to logins.
-- Runs after the functions and views were (re)created, in the same transaction: a new function is executable by
-- everybody until this line has run.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['validation_worker', 'validation_control', 'validation_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        END IF;
    END LOOP;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA validation FROM PUBLIC;
REVOKE ALL ON ALL TABLES    IN SCHEMA validation FROM PUBLIC;
REVOKE ALL ON SCHEMA validation FROM PUBLIC;
GRANT USAGE ON SCHEMA validation TO validation_worker, validation_control, validation_reader;

-- A rented box: its own chunks, through these functions, and nothing else.
GRANT EXECUTE ON FUNCTION
    validation.register_worker, validation.claim_chunk, validation.renew_chunk, validation.heartbeat_worker,
    validation.commit_chunk, validation.release_chunk, validation.drain_worker, validation.retire_worker,
    validation.schema_revision
TO validation_worker;

-- The control plane: the sweep and the queue.
GRANT EXECUTE ON FUNCTION
    validation.sweep_stale_claims, validation.release_stranded_videos, validation.flag_silent_workers,
    validation.requeue_failed, validation.retire_worker, validation.schema_revision
TO validation_control;

-- The control plane: the rented machines.
GRANT EXECUTE ON FUNCTION
    validation.fleet_want, validation.fleet_dismiss, validation.fleet_take_turn, validation.fleet_end_turn,
    validation.fleet_may_search, validation.fleet_request, validation.fleet_move, validation.fleet_observe,
    validation.fleet_ban, validation.fleet_pardon, validation.fleet_record_credit, validation.fleet_transitions,
    validation.fleet_now, validation.fleet_spent
TO validation_control;
GRANT EXECUTE ON FUNCTION validation.fleet_now, validation.fleet_spent TO validation_reader;  -- views call them
GRANT EXECUTE ON FUNCTION validation.audit TO validation_control, validation_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA validation TO validation_control, validation_reader;

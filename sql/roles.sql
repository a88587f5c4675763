-- roles: which role may do what. The roles have no password and cannot log in: an operator grants them to logins.
-- Runs after the functions and views were created anew, in the same transaction: until it has run, every login may
-- execute a new function.
--   validation_owner    owns the ledger's objects; the functions run with its rights and reach nothing else
--   validation_control  the control plane: sweep, queue, rented boxes; every view
--   validation_worker   a box: the functions of its own chunks
--   validation_reader   dashboards: every view
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY
        ARRAY['validation_owner', 'validation_worker', 'validation_control', 'validation_reader']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        END IF;
    END LOOP;
    -- The login that migrates must be able to migrate again what it gives to the owner below, and may do by hand what
    -- the control plane does. A superuser can do both without a grant.
    FOREACH v_role IN ARRAY ARRAY['validation_owner', 'validation_control'] LOOP
        IF NOT pg_has_role(current_user, v_role, 'usage') THEN
            EXECUTE format('GRANT %I TO %I', v_role, current_user);
        END IF;
    END LOOP;
END
$$;

-- The queue belongs to the transcription pipeline: the functions may change the columns of validation and no other.
DO $$
DECLARE
    v_columns text := (
        SELECT string_agg(quote_ident(a.attname), ', ')
        FROM pg_attribute a
        WHERE a.attrelid = 'public.video_queue'::regclass AND a.attnum > 0 AND NOT a.attisdropped
          AND (a.attname LIKE 'validation\_%' OR a.attname IN ('validated_at', 'claimed_by', 'claimed_at')));
BEGIN
    EXECUTE format('GRANT SELECT, UPDATE (%s) ON public.video_queue TO validation_owner', v_columns);
    -- Has no effect unless the table's owner enables row-level security; then the functions still see the rows.
    IF NOT EXISTS (SELECT FROM pg_policy
                   WHERE polrelid = 'public.video_queue'::regclass AND polname = 'validation_works') THEN
        CREATE POLICY validation_works ON public.video_queue TO validation_owner USING (true) WITH CHECK (true);
    END IF;
END
$$;

-- ALTER OWNER needs a new owner that may create objects in the schema; in `public` only within this transaction.
GRANT USAGE, CREATE ON SCHEMA public, validation TO validation_owner;
DO $$
DECLARE
    v_object record;
BEGIN
    FOR v_object IN
        SELECT CASE WHEN c.relkind = 'v' THEN 'VIEW' ELSE 'TABLE' END AS kind, c.oid::regclass::text AS name
        FROM pg_class c
        WHERE c.relkind IN ('r', 'v') AND c.relowner <> 'validation_owner'::regrole
          AND (c.relnamespace = 'validation'::regnamespace
               OR c.relnamespace = 'public'::regnamespace
                  AND c.relname IN ('worker_validators', 'validation_chunks', 'validation_shards', 'validation_results',
                                    'fleets', 'fleet_instances', 'fleet_blacklist', 'fleet_credit_readings'))
        UNION ALL
        SELECT 'FUNCTION', p.oid::regprocedure::text
        FROM pg_proc p
        WHERE p.pronamespace = 'validation'::regnamespace AND p.proowner <> 'validation_owner'::regrole
    LOOP
        EXECUTE format('ALTER %s %s OWNER TO validation_owner', v_object.kind, v_object.name);
    END LOOP;
    -- A hosted Postgres grants every new table to the roles of its public API. Row-level security hides the rows from
    -- them but does not stop a TRUNCATE.
    FOR v_object IN
        SELECT DISTINCT c.oid::regclass::text AS name, r.rolname
        FROM pg_class c, aclexplode(c.relacl) a
        JOIN pg_roles r ON r.oid = a.grantee
        WHERE c.relowner = 'validation_owner'::regrole AND r.rolname IN ('anon', 'authenticated')
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM %I', v_object.name, v_object.rolname);
    END LOOP;
END
$$;
REVOKE CREATE ON SCHEMA public FROM validation_owner;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA validation
    FROM PUBLIC, validation_worker, validation_control, validation_reader;
REVOKE ALL ON ALL TABLES    IN SCHEMA validation
    FROM PUBLIC, validation_worker, validation_control, validation_reader;
REVOKE ALL ON SCHEMA validation FROM PUBLIC;
-- The functions look names up in this schema with their owner's rights, so no other role may create anything in it.
DO $$
DECLARE
    v_role regrole;
BEGIN
    FOR v_role IN
        SELECT DISTINCT a.grantee::regrole
        FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE n.nspname = 'validation' AND a.privilege_type = 'CREATE'
          AND a.grantee NOT IN (0, n.nspowner, 'validation_owner'::regrole)
    LOOP
        EXECUTE format('REVOKE CREATE ON SCHEMA validation FROM %s', v_role);
    END LOOP;
END
$$;
GRANT USAGE ON SCHEMA validation TO validation_worker, validation_control, validation_reader;

-- By default every login of a Postgres may fill the disk with temporary tables, large objects, messages in the log of
-- changes and temporary files of its queries; fill the table of locks with advisory locks, after which no session can
-- do anything and no login can connect; and end the other sessions of its own login, which all boxes share. A privilege
-- of PUBLIC cannot be denied to one login, so it is revoked from PUBLIC, where the migrating login may do that; on a
-- hosted Postgres it often may not. Temporary tables and large objects are then denied to all logins; the other
-- functions are granted to every role that exists now and is none of the ledger's.
DO $$
DECLARE
    v_function record;
    v_others   text := (
        SELECT string_agg(quote_ident(r.rolname), ', ') FROM pg_roles r
        WHERE NOT r.rolsuper AND r.rolname NOT LIKE 'pg\_%'
          AND (r.rolname = 'validation_owner' OR NOT EXISTS (
              SELECT FROM pg_roles ours WHERE ours.rolname LIKE 'validation\_%' AND pg_has_role(r.oid, ours.oid, 'member'))));
BEGIN
    IF pg_has_role(current_user, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'usage') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    ELSE
        RAISE NOTICE 'every login may still create temporary tables: the owner of the database can revoke that';
    END IF;
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        FOR v_function IN
            SELECT p.oid::regprocedure AS name, p.proname NOT LIKE 'lo%' AS is_for_others FROM pg_proc p
            WHERE p.pronamespace = 'pg_catalog'::regnamespace
              AND (p.proname LIKE 'lo\_%' OR p.proname = 'lowrite' OR p.proname LIKE 'pg\_%advisory%'
                   OR p.proname IN ('pg_logical_emit_message', 'pg_terminate_backend', 'pg_cancel_backend'))
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', v_function.name);
            IF v_function.is_for_others THEN
                EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', v_function.name, v_others);
            END IF;
        END LOOP;
    ELSE
        RAISE NOTICE 'every login may still create large objects, take advisory locks without end, and end the sessions '
                     'of its own login: a superuser can revoke these functions';
    END IF;
END
$$;

-- A role may end the sessions of the roles that it is a member of, and no others: the ledger ends those of boxes.
DO $$
DECLARE
    v_login name;
BEGIN
    FOR v_login IN
        SELECT l.rolname FROM pg_roles l
        WHERE l.rolcanlogin AND pg_has_role(l.oid, 'validation_worker', 'member')
          AND NOT pg_has_role(l.oid, 'validation_control', 'member')
          AND NOT pg_has_role('validation_owner', l.oid, 'member')
    LOOP
        BEGIN
            EXECUTE format('GRANT %I TO validation_owner', v_login);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'the ledger cannot end the sessions of %: the login that created it can GRANT % TO '
                         'validation_owner', v_login, v_login;
        END;
    END LOOP;
END
$$;

-- A box: its own chunks, through these functions, and nothing else.
GRANT EXECUTE ON FUNCTION
    validation.register_worker, validation.claim_chunk, validation.renew_chunk, validation.heartbeat_worker,
    validation.commit_chunk, validation.release_chunk, validation.renumber_chunk, validation.drain_worker,
    validation.retire_worker, validation.schema_revision, validation.get_credential,
    validation.peek_videos, validation.peek_validated, validation.count_labels
TO validation_worker;

-- The control plane: the sweep and the queue.
GRANT EXECUTE ON FUNCTION
    validation.sweep_stale_claims, validation.requeue_stranded_videos, validation.mark_stale_workers,
    validation.requeue_videos, validation.find_unknown_videos, validation.find_unknown_chunks,
    validation.restore_shard, validation.withdraw_shard, validation.compact_shards, validation.purge_retired_shards,
    validation.sample_videos, validation.insert_canaries, validation.record_canary_result, validation.clear_quarantine,
    validation.retire_worker, validation.schema_revision, validation.peek_videos, validation.peek_validated,
    validation.count_labels,
    validation.undo_box, validation.settle_failure, validation.prune_box_decisions, validation.end_box_sessions,
    validation.lock_control_run
TO validation_control;

-- The control plane: the rented boxes.
GRANT EXECUTE ON FUNCTION
    validation.fleet_set_target, validation.fleet_scale_to_zero, validation.fleet_acquire_lock,
    validation.fleet_release_lock, validation.fleet_acquire_search_quota, validation.fleet_request,
    validation.fleet_transition, validation.fleet_record_observation, validation.fleet_ban, validation.fleet_lift_ban,
    validation.fleet_record_credit, validation.fleet_record_tick, validation.fleet_transitions,
    validation.fleet_now, validation.fleet_spend, validation.issue_box_key, validation.store_credential
TO validation_control;
GRANT EXECUTE ON FUNCTION validation.fleet_now, validation.fleet_spend TO validation_reader;  -- views call them
GRANT EXECUTE ON FUNCTION validation.has_other_owner TO validation_control, validation_reader;  -- views call it
GRANT EXECUTE ON FUNCTION validation.audit TO validation_control, validation_reader;

-- Views only: box keys, issued credentials and canaries with their answers are tables of this schema.
DO $$
DECLARE
    v_view regclass;
BEGIN
    FOR v_view IN
        SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'validation'::regnamespace AND c.relkind = 'v'
    LOOP
        EXECUTE format('GRANT SELECT ON %s TO validation_control, validation_reader', v_view);
    END LOOP;
END
$$;

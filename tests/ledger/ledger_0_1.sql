-- A ledger of release 0.1, with rows in every table, as pg_dump wrote it. tests/ledger/test_upgrade.py migrates it.
-- Its roles (validation_owner, _worker, _control, _reader) are of the whole cluster and not in the dump.
SET check_function_bodies = false;
CREATE SCHEMA validation;
ALTER SCHEMA validation OWNER TO postgres;
CREATE FUNCTION validation.admit_box(p_worker text, p_label text, p_key_sha256 bytea) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
    DELETE FROM box_keys k WHERE k.worker_id = p_worker;
    INSERT INTO box_keys (worker_id, label, key_sha256) VALUES (p_worker, p_label, p_key_sha256);
$$;
ALTER FUNCTION validation.admit_box(p_worker text, p_label text, p_key_sha256 bytea) OWNER TO validation_owner;
CREATE FUNCTION validation.audit() RETURNS TABLE(law text, violations bigint, example text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    SELECT 'a validating video is held by an open chunk', count(*), min(q.video_id)
    FROM video_queue q LEFT JOIN validation_chunks c ON c.chunk_id = q.validation_chunk
    WHERE q.validation_status = 'validating' AND c.state IS DISTINCT FROM 'open'
    UNION ALL
    SELECT 'a validated video stands in a committed shard', count(*), min(q.video_id)
    FROM video_queue q
    LEFT JOIN validation_chunks c  ON c.chunk_id = q.validation_chunk
    LEFT JOIN validation_results r ON r.shard_key = c.shard_key AND r.video_id = q.video_id
    WHERE q.validation_status = 'validated'
      AND (c.state IS DISTINCT FROM 'committed' OR r.segments IS DISTINCT FROM q.validation_segments)
    UNION ALL
    SELECT 'a committed chunk counts its validated videos and their segments', count(*), min(bad.chunk_id::text)
    FROM (
        SELECT c.chunk_id
        FROM validation_chunks c LEFT JOIN validation_results r USING (shard_key)
        WHERE c.state = 'committed'
        GROUP BY c.chunk_id
        HAVING c.videos_validated <> count(r.video_id) OR c.segments <> coalesce(sum(r.segments), 0)
    ) bad
    UNION ALL
    SELECT 'a shard counts its videos and their segments', count(*), min(bad.shard_key)
    FROM (
        SELECT s.shard_key
        FROM validation_shards s LEFT JOIN validation_results r USING (shard_key)
        GROUP BY s.shard_key
        HAVING s.videos <> count(r.video_id) OR s.segments <> coalesce(sum(r.segments), 0)
    ) bad
    UNION ALL
    SELECT 'a chunk''s shard is the one that it uploaded', count(*), min(c.shard_key)
    FROM validation_chunks c LEFT JOIN validation_shards s USING (shard_key)
    WHERE c.shard_key IS NOT NULL
      AND (s.shard_sha256, s.shard_bytes, s.chunk_id) IS DISTINCT FROM (c.shard_sha256, c.shard_bytes, c.chunk_id)
    UNION ALL
    -- That it is not two is the law of the index validation_results_current.
    SELECT 'what stood in a shard stands in one for ever', count(*), min(bad.video_id)
    FROM (
        SELECT r.video_id
        FROM validation_results r
        GROUP BY r.video_id, r.suite, r.revision
        HAVING bool_and(r.superseded_at IS NOT NULL)
    ) bad
    UNION ALL
    SELECT 'nothing current stands in a deleted shard', count(*), min(r.video_id)
    FROM validation_results r JOIN validation_shards s USING (shard_key)
    WHERE r.superseded_at IS NULL AND s.deleted_at IS NOT NULL
    UNION ALL
    SELECT 'an open chunk holds the videos that it claimed', count(*), min(bad.chunk_id::text)
    FROM (
        SELECT c.chunk_id
        FROM validation_chunks c LEFT JOIN video_queue q ON q.validation_chunk = c.chunk_id
        WHERE c.state = 'open'
        GROUP BY c.chunk_id
        HAVING c.videos_claimed <> count(*) FILTER (WHERE q.validation_status = 'validating')
    ) bad
    UNION ALL
    SELECT 'a worker''s counters equal the sums over its chunks', count(*), min(bad.worker_id)
    FROM (
        SELECT w.worker_id
        FROM worker_validators w LEFT JOIN validation_chunks c USING (worker_id)
        GROUP BY w.worker_id
        HAVING (w.videos_processed, w.videos_failed, w.segments_processed, w.shards_uploaded)
            <> (coalesce(sum(c.videos_validated), 0), coalesce(sum(c.videos_failed), 0),
                coalesce(sum(c.segments), 0), count(c.shard_key))
    ) bad
    UNION ALL
    SELECT 'a worker names the flow runs of its open chunks', count(*), min(w.worker_id)
    FROM worker_validators w
    WHERE cardinality(w.flow_run_ids) <> (SELECT count(c.flow_run_id) FROM validation_chunks c
                                           WHERE c.worker_id = w.worker_id AND c.state = 'open')
    UNION ALL
    SELECT 'no attempt and no crash is counted below zero', count(*), min(q.video_id)
    FROM video_queue q
    WHERE q.validation_attempts < 0 OR q.validation_crashes < 0;
$$;
ALTER FUNCTION validation.audit() OWNER TO validation_owner;
CREATE FUNCTION validation.borrow_credential(p_worker text, p_store text) RETURNS TABLE(access_key_id text, secret_access_key text, session_token text, lasts_s real)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
#variable_conflict use_column
BEGIN
    PERFORM require_box(p_worker);
    RETURN QUERY
    SELECT c.access_key_id, c.secret_access_key, c.session_token, extract(epoch FROM c.expires_at - now())::real
    FROM lent_credentials c
    WHERE c.worker_id = p_worker AND c.store = p_store AND c.expires_at > now();
END
$$;
ALTER FUNCTION validation.borrow_credential(p_worker text, p_store text) OWNER TO validation_owner;
CREATE FUNCTION validation.claim_chunk(p_chunk uuid, p_worker text, p_flow_run uuid, p_size integer, p_languages text[], p_lease_s integer, p_suite text) RETURNS TABLE(shard_number integer, video_id text, language text, segment_count integer, crashes smallint, models text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
#variable_conflict use_column
DECLARE
    v_start  bigint := floor(random() * 4294967296)::bigint - 2147483648;  -- anywhere in hashtext's range
    v_ids    text[];
    v_number integer;
    v_status text;
BEGIN
    PERFORM require_box(p_worker);
    p_size    := least(p_size, 1000);  -- the most that one claim takes, and for how long, whoever asks
    p_lease_s := greatest(least(p_lease_s, 3600), 10);  -- less, and a chunk lapses between two heartbeats
    -- The worker's row is locked first here, and only here: what follows never waits for anybody.
    SELECT w.status INTO v_status FROM worker_validators w WHERE w.worker_id = p_worker FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'worker % is not registered', p_worker USING ERRCODE = 'VF003';
    END IF;
    IF NOT EXISTS (SELECT FROM validation_chunks c WHERE c.chunk_id = p_chunk) THEN
        PERFORM require_trust(p_worker);
        IF v_status = 'draining' THEN
            RETURN;
        END IF;
        PERFORM require_room(p_worker);
        IF EXISTS (SELECT FROM validation_chunks c
                   WHERE c.worker_id = p_worker AND c.flow_run_id = p_flow_run AND c.state = 'open') THEN
            RAISE EXCEPTION 'flow run % holds a chunk already', p_flow_run USING ERRCODE = 'VF009';
        END IF;
        v_ids := pick_suspects(p_size, p_languages);
        IF cardinality(v_ids) = 0 THEN
            v_ids := pick_fresh(p_size, v_start, 2147483648, p_languages);
            v_ids := v_ids || pick_fresh(p_size - cardinality(v_ids), -2147483648, v_start, p_languages);  -- wrap once
        END IF;
        IF cardinality(v_ids) = 0 THEN
            RETURN;
        END IF;
        SELECT coalesce(max(c.shard_number), 0) + 1 INTO v_number FROM validation_chunks c WHERE c.worker_id = p_worker;
        INSERT INTO validation_chunks
               (chunk_id, worker_id, shard_number, flow_run_id, suite, lease_expires_at, videos_claimed, machine)
        VALUES (p_chunk, p_worker, v_number, p_flow_run, left(p_suite, 200), now() + make_interval(secs => p_lease_s),
                cardinality(v_ids), (SELECT k.label FROM box_keys k WHERE k.worker_id = p_worker));
        UPDATE video_queue q
        SET validation_status   = 'validating',
            validation_chunk    = p_chunk,
            validation_attempts = q.validation_attempts + 1,
            claimed_by          = p_worker,
            claimed_at          = now()
        WHERE q.video_id = ANY (v_ids);
        UPDATE worker_validators w SET status = 'online', last_heartbeat_at = now()
        WHERE w.worker_id = p_worker;
        PERFORM mirror_worker(p_worker);
    END IF;
    RETURN QUERY
    WITH held AS (
        SELECT c.shard_number, q.video_id, q.language, q.segment_count, q.validation_crashes, q.validation_models
        FROM validation_chunks c
        JOIN video_queue q ON q.validation_chunk = c.chunk_id AND q.validation_status = 'validating'
        WHERE c.chunk_id = p_chunk AND c.worker_id = p_worker AND c.state = 'open'
    )
    SELECT h.shard_number, h.video_id, h.language, h.segment_count, h.validation_crashes,
           CASE WHEN (SELECT bool_and(validation_models IS NOT NULL) FROM held)
                THEN (SELECT array_agg(DISTINCT m ORDER BY m) FROM held, unnest(held.validation_models) m) END
    FROM held h
    ORDER BY h.video_id;
END
$$;
ALTER FUNCTION validation.claim_chunk(p_chunk uuid, p_worker text, p_flow_run uuid, p_size integer, p_languages text[], p_lease_s integer, p_suite text) OWNER TO validation_owner;
CREATE TABLE public.validation_chunks (
    chunk_id uuid NOT NULL,
    worker_id text NOT NULL,
    shard_number integer NOT NULL,
    flow_run_id uuid,
    suite text NOT NULL,
    state text DEFAULT 'open'::text NOT NULL,
    claimed_at timestamp with time zone DEFAULT now() NOT NULL,
    lease_expires_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone,
    close_reason text,
    videos_claimed integer NOT NULL,
    videos_validated integer DEFAULT 0 NOT NULL,
    videos_failed integer DEFAULT 0 NOT NULL,
    segments integer DEFAULT 0 NOT NULL,
    segments_per_s real DEFAULT 0 NOT NULL,
    shard_key text,
    shard_sha256 text,
    shard_bytes bigint,
    audio_s double precision,
    segments_accepted integer,
    segments_review integer,
    segments_rejected integer,
    machine text,
    renewed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT validation_chunks_audio_is_of_a_shard CHECK (((audio_s IS NULL) OR ((shard_key IS NOT NULL) AND (audio_s >= (0)::double precision)))),
    CONSTRAINT validation_chunks_closed_once CHECK (((state = 'open'::text) = (closed_at IS NULL))),
    CONSTRAINT validation_chunks_counts_add_up CHECK (((videos_validated >= 0) AND (videos_failed >= 0) AND (segments >= 0) AND ((videos_validated + videos_failed) <= videos_claimed))),
    CONSTRAINT validation_chunks_nothing_kept CHECK (((state = ANY (ARRAY['open'::text, 'committed'::text])) OR ((videos_validated = 0) AND (videos_failed = 0) AND (segments = 0)))),
    CONSTRAINT validation_chunks_sha256_is_hex CHECK ((shard_sha256 ~ '^[0-9a-f]{64}$'::text)),
    CONSTRAINT validation_chunks_shard_iff_committed CHECK ((((shard_key IS NOT NULL) = ((state = 'committed'::text) AND (videos_validated > 0))) AND ((shard_key IS NULL) = (shard_sha256 IS NULL)) AND ((shard_key IS NULL) = (shard_bytes IS NULL)))),
    CONSTRAINT validation_chunks_state_is_known CHECK ((state = ANY (ARRAY['open'::text, 'committed'::text, 'released'::text, 'expired'::text]))),
    CONSTRAINT validation_chunks_verdicts_add_up CHECK ((((segments_accepted IS NULL) AND (segments_review IS NULL) AND (segments_rejected IS NULL)) OR ((shard_key IS NOT NULL) AND (segments_accepted >= 0) AND (segments_review >= 0) AND (segments_rejected >= 0) AND (((segments_accepted + segments_review) + segments_rejected) = segments))))
);
ALTER TABLE public.validation_chunks OWNER TO validation_owner;
CREATE FUNCTION validation.close_without_shard(p_old public.validation_chunks, p_state text, p_reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    UPDATE validation_chunks c
    SET state = p_state, closed_at = now(), close_reason = p_reason,
        videos_validated = 0, videos_failed = 0, segments = 0, segments_per_s = 0
    WHERE c.chunk_id = p_old.chunk_id;
    PERFORM mirror_worker(p_old.worker_id, -p_old.videos_validated, -p_old.videos_failed, -p_old.segments);
END
$$;
ALTER FUNCTION validation.close_without_shard(p_old public.validation_chunks, p_state text, p_reason text) OWNER TO validation_owner;
CREATE FUNCTION validation.commit_chunk(p_chunk uuid, p_shard jsonb, p_validated jsonb, p_failed jsonb, p_max_attempts integer, p_backoff_s integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_old      validation_chunks;
    v_segments integer;
    v_touched  integer;
    v_returned integer;
BEGIN
    SELECT * INTO v_old FROM validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM validation_chunks c
                   WHERE c.chunk_id = p_chunk AND c.state = 'committed'
                     AND c.shard_sha256 IS NOT DISTINCT FROM p_shard ->> 'sha256') THEN
            RETURN;
        END IF;
        PERFORM raise_claim_lost(p_chunk);
    END IF;
    IF p_shard IS NOT NULL AND p_shard ->> 'key' IS DISTINCT FROM shard_key_of(v_old) THEN
        RAISE EXCEPTION 'chunk %: its shard lies at %, not at %', p_chunk, shard_key_of(v_old), left(p_shard ->> 'key', 200)
            USING ERRCODE = 'VF002';
    END IF;
    IF octet_length((p_shard -> 'models')::text) > 16384 OR (p_shard ->> 'size_bytes')::bigint NOT BETWEEN 0 AND 1e12
       OR (p_shard ->> 'audio_s')::double precision NOT BETWEEN 0 AND 1e9 THEN
        RAISE EXCEPTION 'chunk %: no shard is so large', p_chunk USING ERRCODE = 'VF002';
    END IF;
    p_max_attempts := least(greatest(p_max_attempts, 1), 10);
    p_backoff_s    := least(greatest(p_backoff_s, 0), 3600);
    v_segments     := coalesce((SELECT sum(require_segments((v ->> 'segments')::bigint, 1))
                                FROM jsonb_array_elements(p_validated) v), 0);
    UPDATE video_queue q
    SET validation_status   = 'validated',
        validated_at        = now(),
        validation_segments = (v ->> 'segments')::integer,
        validation_error    = NULL
    FROM jsonb_array_elements(p_validated) v
    WHERE q.video_id = v ->> 'video_id' AND q.validation_chunk = p_chunk AND q.validation_status = 'validating';
    GET DIAGNOSTICS v_touched = ROW_COUNT;
    UPDATE video_queue q
    SET validation_status     = CASE WHEN retry.again THEN 'pending' ELSE 'validation_failed' END,
        validation_chunk      = CASE WHEN retry.again THEN NULL ELSE p_chunk END,
        claimed_by            = CASE WHEN retry.again THEN NULL ELSE q.claimed_by END,
        validation_not_before = CASE WHEN retry.again
                                     THEN now() + make_interval(
                                         secs => least(p_backoff_s * 2 ^ least(retry.attempts - 1, 20), 86400))
                                     ELSE q.validation_not_before END,
        validation_error      = retry.error
    FROM (
        SELECT held.video_id, left(f ->> 'error', 2000) AS error, held.validation_attempts AS attempts,
               (f ->> 'transient')::boolean AND held.validation_attempts < p_max_attempts AS again
        FROM jsonb_array_elements(p_failed) f
        JOIN video_queue held ON held.video_id = f ->> 'video_id'
        WHERE held.validation_chunk = p_chunk AND held.validation_status = 'validating'
    ) retry
    WHERE q.video_id = retry.video_id;
    GET DIAGNOSTICS v_returned = ROW_COUNT;
    IF v_touched <> jsonb_array_length(p_validated) OR v_returned <> jsonb_array_length(p_failed) THEN
        RAISE EXCEPTION 'chunk %: a committed video is not in the chunk, or named twice', p_chunk USING ERRCODE = 'VF002';
    END IF;
    UPDATE validation_chunks c
    SET state             = 'committed',
        closed_at         = now(),
        videos_validated  = v_touched,
        videos_failed     = v_returned,
        segments          = v_segments,
        segments_per_s    = 0,
        shard_key         = p_shard ->> 'key',
        shard_sha256      = p_shard ->> 'sha256',
        shard_bytes       = (p_shard ->> 'size_bytes')::bigint,
        audio_s           = (p_shard ->> 'audio_s')::double precision,
        segments_accepted = (p_shard -> 'verdicts' ->> 'accept')::integer,
        segments_review   = (p_shard -> 'verdicts' ->> 'review')::integer,
        segments_rejected = (p_shard -> 'verdicts' ->> 'reject')::integer
    WHERE c.chunk_id = p_chunk;
    IF p_shard IS NOT NULL THEN
        PERFORM record_shard(p_shard, p_chunk, p_validated);
    END IF;
    PERFORM return_videos(p_chunk);
    PERFORM heartbeat_worker(v_old.worker_id);
    PERFORM mirror_worker(
        v_old.worker_id,
        v_touched  - v_old.videos_validated,
        v_returned - v_old.videos_failed,
        v_segments - v_old.segments,
        CASE WHEN p_shard IS NULL THEN 0 ELSE 1 END,
        coalesce((p_shard ->> 'size_bytes')::bigint, 0));
END
$$;
ALTER FUNCTION validation.commit_chunk(p_chunk uuid, p_shard jsonb, p_validated jsonb, p_failed jsonb, p_max_attempts integer, p_backoff_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.compact_shards(p_shard jsonb, p_sources text[], p_videos jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    PERFORM FROM validation_results r
    WHERE r.shard_key = ANY (p_sources) AND r.superseded_at IS NULL
    ORDER BY r.video_id
    FOR NO KEY UPDATE;
    IF EXISTS (
        SELECT FROM (
            SELECT r.video_id, r.segments
            FROM validation_results r JOIN validation_shards s USING (shard_key)
            WHERE s.shard_key = ANY (p_sources) AND r.superseded_at IS NULL AND s.deleted_at IS NULL
              AND s.suite = p_shard ->> 'suite' AND s.models = p_shard -> 'models'
        ) stands
        FULL JOIN (
            SELECT v ->> 'video_id' AS video_id, (v ->> 'segments')::integer AS segments
            FROM jsonb_array_elements(p_videos) v
        ) written USING (video_id, segments)
        WHERE stands.video_id IS NULL OR written.video_id IS NULL
    ) THEN
        RAISE EXCEPTION 'the shards changed while % was made of them', p_shard ->> 'key' USING ERRCODE = 'VF005';
    END IF;
    PERFORM record_shard(p_shard, NULL, p_videos);
END
$$;
ALTER FUNCTION validation.compact_shards(p_shard jsonb, p_sources text[], p_videos jsonb) OWNER TO validation_owner;
CREATE FUNCTION validation.drain_worker(p_worker text, p_instance text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    PERFORM require_instance(p_worker, p_instance);
    UPDATE worker_validators w SET status = 'draining', last_heartbeat_at = now() WHERE w.worker_id = p_worker;
END
$$;
ALTER FUNCTION validation.drain_worker(p_worker text, p_instance text) OWNER TO validation_owner;
CREATE FUNCTION validation.draw_videos(p_languages text[], p_count integer) RETURNS TABLE(video_id text, language text, segment_count integer)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    SELECT q.video_id, q.language, q.segment_count
    FROM video_queue q
    WHERE q.status = 'done' AND q.language = ANY (p_languages)
      AND NOT EXISTS (SELECT FROM canaries c WHERE c.video_id = q.video_id)
    ORDER BY random()
    LIMIT p_count;
$$;
ALTER FUNCTION validation.draw_videos(p_languages text[], p_count integer) OWNER TO validation_owner;
CREATE FUNCTION validation.expire_chunk(p_old public.validation_chunks, p_reason text, p_max_crashes integer) RETURNS TABLE(returned integer, failed integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    RETURN QUERY SELECT * FROM return_crashed_videos(p_old.chunk_id, has_outlived(p_old), p_max_crashes);
    PERFORM close_without_shard(p_old, 'expired', p_reason);
END
$$;
ALTER FUNCTION validation.expire_chunk(p_old public.validation_chunks, p_reason text, p_max_crashes integer) OWNER TO validation_owner;
CREATE FUNCTION validation.flag_silent_workers(p_silent_s integer) RETURNS SETOF text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
    UPDATE worker_validators w
    SET status = 'offline', current_video_id = NULL
    WHERE w.worker_id IN (
        SELECT s.worker_id
        FROM worker_validators s
        WHERE s.status <> 'offline' AND s.last_heartbeat_at < now() - interval '1 day'
        FOR NO KEY UPDATE SKIP LOCKED);
    UPDATE worker_validators w
    SET status = 'stale'
    WHERE w.worker_id IN (
        SELECT s.worker_id
        FROM worker_validators s
        WHERE s.status IN ('online', 'draining') AND s.last_heartbeat_at < now() - make_interval(secs => p_silent_s)
        FOR NO KEY UPDATE SKIP LOCKED)
    RETURNING w.worker_id;
$$;
ALTER FUNCTION validation.flag_silent_workers(p_silent_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_ban(p_machine bigint, p_host bigint, p_reason text, p_ttl_s integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_until timestamptz := fleet_now() + make_interval(secs => p_ttl_s);
BEGIN
    INSERT INTO fleet_blacklist AS b (kind, vendor_id, reason, host_id, banned_at, expires_at)
    SELECT 'machine', p_machine, p_reason, p_host, fleet_now(), v_until
    ON CONFLICT (kind, vendor_id) DO UPDATE
    SET reason     = CASE WHEN excluded.expires_at > b.expires_at THEN excluded.reason ELSE b.reason END,
        expires_at = greatest(excluded.expires_at, b.expires_at);
    INSERT INTO fleet_blacklist AS b (kind, vendor_id, reason, host_id, banned_at, expires_at)
    SELECT 'host', p_host, format('%s of its machines are banned', count(*)), p_host, fleet_now(), v_until
    FROM fleet_blacklist m
    WHERE m.kind = 'machine' AND m.host_id = p_host AND m.expires_at > fleet_now()
    HAVING count(*) >= 3
    ON CONFLICT (kind, vendor_id) DO UPDATE
    SET reason = excluded.reason, expires_at = greatest(excluded.expires_at, b.expires_at);
END
$$;
ALTER FUNCTION validation.fleet_ban(p_machine bigint, p_host bigint, p_reason text, p_ttl_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_dismiss(p_fleet text, p_abandon boolean DEFAULT false) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    UPDATE fleets f SET machines = 0, abandoned = f.abandoned OR p_abandon, changed_at = fleet_now()
    WHERE f.fleet = p_fleet;
    RETURN FOUND;
END
$$;
ALTER FUNCTION validation.fleet_dismiss(p_fleet text, p_abandon boolean) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_end_turn(p_fleet text, p_holder uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    UPDATE fleets f SET turn_holder = NULL, turn_ends_at = NULL WHERE f.fleet = p_fleet AND f.turn_holder = p_holder;
END
$$;
ALTER FUNCTION validation.fleet_end_turn(p_fleet text, p_holder uuid) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_may_search(p_fleet text, p_holder uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_today timestamptz := date_trunc('day', fleet_now(), 'UTC');
BEGIN
    UPDATE fleets f
    SET searches_today = CASE WHEN f.searched_at >= v_today THEN f.searches_today + 1 ELSE 1 END,
        searched_at    = fleet_now()
    WHERE f.fleet = p_fleet AND f.turn_holder = p_holder
      AND (f.searched_at IS NULL OR f.searched_at <= fleet_now()
           - CASE WHEN f.searches_today < 100 OR f.searched_at < v_today THEN interval '115 seconds'  -- a tick comes early
                  ELSE interval '8 minutes' END);
    RETURN FOUND;
END
$$;
ALTER FUNCTION validation.fleet_may_search(p_fleet text, p_holder uuid) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_move(p_label text, p_to text, p_instance_id bigint DEFAULT NULL::bigint, p_reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_from   text;
    v_worker text;
BEGIN
    SELECT i.state, i.worker_id INTO v_from, v_worker FROM fleet_instances i WHERE i.label = p_label FOR NO KEY UPDATE;
    IF v_from = p_to THEN
        RETURN true;
    ELSIF NOT EXISTS (SELECT FROM fleet_transitions() t WHERE t.from_state = v_from AND t.to_state = p_to) THEN
        RETURN false;
    END IF;
    UPDATE fleet_instances i
    SET state           = p_to,
        changed_at      = fleet_now(),
        instance_id     = coalesce(i.instance_id, p_instance_id),
        reason          = coalesce(i.reason, p_reason),  -- the first reason is the cause
        absences        = 0,                             -- only listings from now on tell of this state
        last_absence_at = NULL,
        accepted_at     = CASE WHEN p_to = 'working' THEN fleet_now() ELSE i.accepted_at END,
        billed_until    = CASE WHEN p_to IN ('destroyed', 'gone') THEN coalesce(i.billed_until, fleet_now()) END,
        closed_at       = CASE WHEN p_to = 'gone' THEN fleet_now() END
    WHERE i.label = p_label;
    IF p_to = 'draining' THEN
        UPDATE worker_validators w SET status = 'draining' WHERE w.worker_id = v_worker AND w.status = 'online';
    ELSIF p_to = 'destroyed' THEN
        PERFORM retire_worker(v_worker);  -- what it held goes back at once, not when its lease ends
    END IF;
    RETURN true;
END
$$;
ALTER FUNCTION validation.fleet_move(p_label text, p_to text, p_instance_id bigint, p_reason text) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_now() RETURNS timestamp with time zone
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    SELECT now();
$$;
ALTER FUNCTION validation.fleet_now() OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_observe(p_fleet text, p_seen jsonb, p_complete boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    UPDATE fleet_instances i
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
        slow_since          = CASE WHEN s.slow THEN coalesce(i.slow_since, fleet_now()) END
    FROM jsonb_to_recordset(p_seen) AS s(label text, instance_id bigint, status text, message text,
                                         usd_per_hour numeric, slow boolean)
    WHERE i.fleet = p_fleet AND i.state <> 'gone' AND i.label = s.label
      AND s.instance_id = coalesce(i.instance_id, s.instance_id);
    UPDATE fleet_instances i
    SET absences = i.absences + 1, last_absence_at = fleet_now()
    WHERE p_complete
      AND i.fleet = p_fleet AND i.state <> 'gone'
      AND coalesce(i.last_absence_at, i.changed_at) <= fleet_now() - interval '30 seconds'
      AND NOT EXISTS (SELECT FROM jsonb_to_recordset(p_seen) AS s(label text, instance_id bigint)
                      WHERE s.label = i.label AND s.instance_id = coalesce(i.instance_id, s.instance_id));
END
$$;
ALTER FUNCTION validation.fleet_observe(p_fleet text, p_seen jsonb, p_complete boolean) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_pardon(p_kind text, p_vendor_id bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    DELETE FROM fleet_blacklist b WHERE b.kind = p_kind AND b.vendor_id = p_vendor_id AND b.expires_at > fleet_now();
    RETURN FOUND;
END
$$;
ALTER FUNCTION validation.fleet_pardon(p_kind text, p_vendor_id bigint) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_record_credit(p_fleet text, p_credit_usd numeric) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    DELETE FROM fleet_credit_readings r WHERE r.fleet = p_fleet AND r.read_at < fleet_now() - interval '7 days';
    INSERT INTO fleet_credit_readings (fleet, read_at, credit_usd, spent_usd)
    VALUES (p_fleet, fleet_now(), p_credit_usd, fleet_spent(p_fleet))
    ON CONFLICT DO NOTHING;
END
$$;
ALTER FUNCTION validation.fleet_record_credit(p_fleet text, p_credit_usd numeric) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_request(p_fleet text, p_holder uuid, p_label text, p_slot integer, p_offer jsonb) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $_$
DECLARE
    v_fleet    fleets;
    v_offer    record;
    v_machines integer;
    v_per_hour numeric;
    v_spent    numeric;
BEGIN
    SELECT * INTO v_fleet FROM fleets f WHERE f.fleet = p_fleet FOR NO KEY UPDATE;  -- one request at a time
    IF v_fleet.turn_holder IS DISTINCT FROM p_holder OR v_fleet.turn_ends_at <= fleet_now() THEN
        RETURN 'another reconciler has the turn';
    END IF;
    IF NOT starts_with(p_label, v_fleet.label_prefix) THEN
        RETURN format('label %s does not begin with %s', p_label, v_fleet.label_prefix);
    END IF;
    SELECT * INTO v_offer FROM jsonb_to_record(p_offer) AS o(
        offer_id bigint, machine_id bigint, host_id bigint, gpu_name text, usd_per_hour numeric, usd_once numeric,
        boot_within_s integer);
    SELECT count(*) FILTER (WHERE i.state <> 'destroyed'), coalesce(sum(i.usd_per_hour), 0) INTO v_machines, v_per_hour
    FROM fleet_instances i WHERE i.fleet = p_fleet AND i.state <> 'gone';
    v_spent := fleet_spent(p_fleet);
    IF v_machines >= v_fleet.machines THEN
        RETURN format('%s machines are there or on their way, and %s are wanted', v_machines, v_fleet.machines);
    ELSIF v_per_hour + v_offer.usd_per_hour > v_fleet.max_usd_per_hour THEN
        RETURN format('with it the fleet would cost $%s an hour, above its cap of $%s',
                      round(v_per_hour + v_offer.usd_per_hour, 4), v_fleet.max_usd_per_hour);
    ELSIF v_spent + v_offer.usd_once >= v_fleet.max_usd THEN
        RETURN format('$%s are spent, of a budget of $%s', round(v_spent, 2), v_fleet.max_usd);
    ELSIF EXISTS (SELECT FROM fleet_instances i WHERE i.fleet = p_fleet AND i.slot = p_slot AND i.state <> 'gone') THEN
        RETURN format('slot %s has a machine', p_slot);
    ELSIF EXISTS (SELECT FROM fleet_instances i
                  WHERE i.offer_id = v_offer.offer_id AND i.state <> 'gone') THEN
        RETURN format('offer %s is rented already', v_offer.offer_id);
    END IF;
    INSERT INTO fleet_instances (label, fleet, slot, worker_id, offer_id, machine_id, host_id, gpu_name,
                                 usd_per_hour, usd_once, boot_within_s, requested_at, changed_at)
    VALUES (p_label, p_fleet, p_slot, 'val-' || p_slot, v_offer.offer_id, v_offer.machine_id, v_offer.host_id,
            v_offer.gpu_name, v_offer.usd_per_hour, v_offer.usd_once, v_offer.boot_within_s, fleet_now(), fleet_now());
    RETURN NULL;
END
$_$;
ALTER FUNCTION validation.fleet_request(p_fleet text, p_holder uuid, p_label text, p_slot integer, p_offer jsonb) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_spent(p_fleet text) RETURNS numeric
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(i.usd_once + i.usd_per_hour
                            * extract(epoch FROM coalesce(i.billed_until, fleet_now()) - i.requested_at) / 3600), 0)
        FROM fleet_instances i
        WHERE i.fleet = p_fleet AND (i.state <> 'gone' OR i.instance_id IS NOT NULL)
    );
END
$$;
ALTER FUNCTION validation.fleet_spent(p_fleet text) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_take_turn(p_fleet text, p_holder uuid, p_lease_s integer) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    UPDATE fleets f
    SET turn_holder = p_holder, turn_ends_at = fleet_now() + make_interval(secs => p_lease_s)
    WHERE f.fleet = p_fleet
      AND (f.turn_holder IS NULL OR f.turn_holder = p_holder OR f.turn_ends_at <= fleet_now());
    RETURN FOUND;
END
$$;
ALTER FUNCTION validation.fleet_take_turn(p_fleet text, p_holder uuid, p_lease_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_transitions() RETURNS TABLE(from_state text, to_state text)
    LANGUAGE sql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    VALUES ('requested',  'renting'),     -- its id is known: the vendor said so, or a listing shows its label
           ('requested',  'destroying'),  -- the vendor refused, and yet named an instance
           ('requested',  'gone'),        -- refused, or in none of three complete listings
           ('renting',    'working'),     -- its worker heartbeats
           ('renting',    'destroying'),  -- it failed, or is not wanted any more
           ('working',    'draining'),    -- not wanted any more
           ('working',    'destroying'),  -- it failed
           ('draining',   'destroying'),  -- it holds no chunk, or took too long
           ('destroying', 'destroyed'),   -- the vendor agreed
           ('destroyed',  'destroying'),  -- a later listing shows it still
           ('destroyed',  'gone');        -- in none of two complete listings
$$;
ALTER FUNCTION validation.fleet_transitions() OWNER TO validation_owner;
CREATE FUNCTION validation.fleet_want(p_fleet text, p_machines integer, p_max_usd_per_hour numeric, p_max_usd numeric, p_order jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    INSERT INTO fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, changed_at)
    VALUES (p_fleet, format('vfleet/%s-%s/', p_fleet, left(gen_random_uuid()::text, 8)),
            p_machines, p_max_usd_per_hour, p_max_usd, p_order, fleet_now())
    ON CONFLICT (fleet) DO UPDATE
    SET machines         = excluded.machines,
        abandoned        = false,
        max_usd_per_hour = excluded.max_usd_per_hour,
        max_usd          = excluded.max_usd,
        order_json       = excluded.order_json,
        changed_at       = excluded.changed_at;
END
$$;
ALTER FUNCTION validation.fleet_want(p_fleet text, p_machines integer, p_max_usd_per_hour numeric, p_max_usd numeric, p_order jsonb) OWNER TO validation_owner;
CREATE FUNCTION validation.forget_shards(p_older_than_s integer) RETURNS SETOF text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
    UPDATE validation_shards s SET deleted_at = now()
    WHERE s.deleted_at IS NULL
      AND NOT EXISTS (
          SELECT FROM validation_results r
          WHERE r.shard_key = s.shard_key
            AND coalesce(r.superseded_at, 'infinity') > now() - make_interval(secs => p_older_than_s))
    RETURNING s.shard_key;
$$;
ALTER FUNCTION validation.forget_shards(p_older_than_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.has_outlived(p_chunk public.validation_chunks) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    SELECT EXISTS (
        SELECT FROM worker_validators w
        WHERE w.worker_id = p_chunk.worker_id AND w.status IN ('online', 'draining')
          AND greatest(w.heard_since, w.started_at) <= p_chunk.renewed_at
          AND w.last_heartbeat_at > p_chunk.renewed_at + (p_chunk.lease_expires_at - p_chunk.renewed_at) / 2);
$$;
ALTER FUNCTION validation.has_outlived(p_chunk public.validation_chunks) OWNER TO validation_owner;
CREATE FUNCTION validation.heartbeat_worker(p_worker text, p_current_video text DEFAULT NULL::text, p_last_error text DEFAULT NULL::text, p_instance text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
BEGIN
    PERFORM require_instance(p_worker, p_instance);
    IF p_instance IS NOT NULL THEN
        PERFORM require_trust(p_worker);
        UPDATE worker_validators w
        SET status            = CASE WHEN w.status = 'draining' THEN w.status ELSE 'online' END,
            heard_since       = CASE WHEN w.last_heartbeat_at < now() - make_interval(
                                              secs => coalesce((w.config_json -> 'budgets' ->> 'lease_s')::real, 75) / 2)
                                     THEN now() ELSE w.heard_since END,
            last_heartbeat_at = now()
        WHERE w.worker_id = p_worker;
    END IF;
    UPDATE worker_validators w
    SET current_video_id  = coalesce(left(p_current_video, 200), w.current_video_id),
        last_error        = coalesce(left(p_last_error, 2000), w.last_error)
    WHERE w.worker_id = p_worker AND coalesce(p_current_video, p_last_error) IS NOT NULL;
END
$$;
ALTER FUNCTION validation.heartbeat_worker(p_worker text, p_current_video text, p_last_error text, p_instance text) OWNER TO validation_owner;
CREATE FUNCTION validation.judge_canary(p_video text, p_chunk uuid, p_outcome text, p_finding text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_held uuid;
BEGIN
    INSERT INTO canary_judgements (video_id, chunk_id, outcome, finding)
    VALUES (p_video, p_chunk, p_outcome, p_finding)
    ON CONFLICT DO NOTHING;
    FOR v_held IN
        SELECT held.chunk_id
        FROM validation_chunks judged
        JOIN distrusted_workers d    ON d.worker_id = judged.worker_id AND d.machine IS NOT DISTINCT FROM judged.machine
        JOIN validation_chunks held  ON held.worker_id = judged.worker_id AND held.state = 'open'
                                    AND held.machine IS NOT DISTINCT FROM judged.machine
        WHERE judged.chunk_id = p_chunk AND p_outcome = 'wrong' AND NOT d.is_excused
        FOR NO KEY UPDATE OF held SKIP LOCKED
    LOOP
        PERFORM release_chunk(v_held, 'its worker is distrusted');
    END LOOP;
END
$$;
ALTER FUNCTION validation.judge_canary(p_video text, p_chunk uuid, p_outcome text, p_finding text) OWNER TO validation_owner;
CREATE FUNCTION validation.lend_credential(p_worker text, p_store text, p_access_key_id text, p_secret_access_key text, p_session_token text, p_lasts_s integer) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
    INSERT INTO lent_credentials
    SELECT k.worker_id, p_store, p_access_key_id, p_secret_access_key, p_session_token,
           now(), now() + make_interval(secs => p_lasts_s)
    FROM box_keys k WHERE k.worker_id = p_worker
    ON CONFLICT (worker_id, store) DO UPDATE
    SET access_key_id     = excluded.access_key_id,
        secret_access_key = excluded.secret_access_key,
        session_token     = excluded.session_token,
        lent_at           = excluded.lent_at,
        expires_at        = excluded.expires_at;
$$;
ALTER FUNCTION validation.lend_credential(p_worker text, p_store text, p_access_key_id text, p_secret_access_key text, p_session_token text, p_lasts_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.lock_worker(p_worker text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    INSERT INTO worker_locks (worker_id) VALUES (p_worker) ON CONFLICT DO NOTHING;
    SELECT FROM worker_locks l WHERE l.worker_id = p_worker FOR UPDATE;
$$;
ALTER FUNCTION validation.lock_worker(p_worker text) OWNER TO validation_owner;
CREATE FUNCTION validation.mirror_worker(p_worker text, p_videos integer DEFAULT 0, p_failed integer DEFAULT 0, p_segments integer DEFAULT 0, p_shards integer DEFAULT 0, p_bytes bigint DEFAULT 0) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    UPDATE worker_validators w
    SET videos_processed        = w.videos_processed   + p_videos,
        videos_failed           = w.videos_failed      + p_failed,
        segments_processed      = w.segments_processed + p_segments,
        shards_written          = w.shards_written     + p_shards,
        shards_uploaded         = w.shards_uploaded    + p_shards,
        total_parquet_mb        = w.total_parquet_mb   + p_bytes / 1e6,
        last_video_completed_at = CASE WHEN p_videos > 0 THEN now() ELSE w.last_video_completed_at END,
        flow_run_ids            = held.flow_run_ids,
        avg_segs_per_second     = coalesce(nullif(held.segments_per_s, 0), w.avg_segs_per_second),
        current_video_id        = CASE WHEN held.flow_run_ids = '{}' THEN NULL ELSE w.current_video_id END
    FROM (
        SELECT coalesce(array_agg(c.flow_run_id ORDER BY c.claimed_at) FILTER (WHERE c.flow_run_id IS NOT NULL), '{}')
                   AS flow_run_ids,
               coalesce(sum(c.segments_per_s), 0) AS segments_per_s
        FROM validation_chunks c
        WHERE c.worker_id = p_worker AND c.state = 'open'
    ) held
    WHERE w.worker_id = p_worker;
$$;
ALTER FUNCTION validation.mirror_worker(p_worker text, p_videos integer, p_failed integer, p_segments integer, p_shards integer, p_bytes bigint) OWNER TO validation_owner;
CREATE FUNCTION validation.pardon_worker(p_worker text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_pardoned integer;
BEGIN
    UPDATE canary_judgements j SET pardoned_at = now()
    FROM validation_chunks c
    WHERE c.chunk_id = j.chunk_id AND p_worker IN (c.worker_id, c.machine)
      AND j.outcome = 'wrong' AND j.pardoned_at IS NULL;
    GET DIAGNOSTICS v_pardoned = ROW_COUNT;
    RETURN v_pardoned;
END
$$;
ALTER FUNCTION validation.pardon_worker(p_worker text) OWNER TO validation_owner;
CREATE FUNCTION validation.pick_fresh(p_size integer, p_from bigint, p_below bigint, p_languages text[]) RETURNS text[]
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    WITH picked AS MATERIALIZED (
        SELECT q.video_id
        FROM video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending' AND q.validation_crashes = 0
          AND q.validation_not_before <= now()
          AND hashtext(q.video_id) >= p_from AND hashtext(q.video_id) < p_below
          AND (p_languages IS NULL OR q.language = ANY (p_languages))
        ORDER BY hashtext(q.video_id)
        LIMIT p_size
        FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(video_id), '{}') FROM picked;
$$;
ALTER FUNCTION validation.pick_fresh(p_size integer, p_from bigint, p_below bigint, p_languages text[]) OWNER TO validation_owner;
CREATE FUNCTION validation.pick_suspects(p_size integer, p_languages text[]) RETURNS text[]
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    WITH first AS MATERIALIZED (
        SELECT q.video_id, q.validation_crashes
        FROM video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending' AND q.validation_crashes > 0
          AND q.validation_not_before <= now()
          AND (p_languages IS NULL OR q.language = ANY (p_languages))
        ORDER BY q.validation_crashes, hashtext(q.video_id)
        LIMIT 1
        FOR NO KEY UPDATE SKIP LOCKED
    ), mates AS MATERIALIZED (
        SELECT q.video_id
        FROM video_queue q
        WHERE q.status = 'done' AND q.validation_status = 'pending'
          AND q.validation_crashes > 0  -- stated for the planner: the index holds no others
          AND q.validation_crashes = (SELECT validation_crashes FROM first)
          AND q.validation_not_before <= now()
          AND q.video_id <> (SELECT video_id FROM first)
          AND (p_languages IS NULL OR q.language = ANY (p_languages))
        ORDER BY hashtext(q.video_id)
        LIMIT (SELECT CASE WHEN validation_crashes = 1 THEN greatest(p_size / 5, 1) - 1 ELSE 0 END FROM first)
        FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(video_id), '{}')
    FROM (SELECT video_id FROM first UNION ALL SELECT video_id FROM mates) picked;
$$;
ALTER FUNCTION validation.pick_suspects(p_size integer, p_languages text[]) OWNER TO validation_owner;
CREATE FUNCTION validation.plant_canaries(p_suite text, p_models jsonb, p_basis jsonb, p_canaries jsonb) RETURNS SETOF text
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
    INSERT INTO canaries AS entered (video_id, suite, models, basis, answers)
    SELECT c ->> 'video_id', p_suite, p_models, p_basis, c -> 'answers'
    FROM jsonb_array_elements(p_canaries) c
    WHERE NOT EXISTS (SELECT FROM video_queue q WHERE q.video_id = c ->> 'video_id')
    ON CONFLICT DO NOTHING
    RETURNING entered.video_id;
$$;
ALTER FUNCTION validation.plant_canaries(p_suite text, p_models jsonb, p_basis jsonb, p_canaries jsonb) OWNER TO validation_owner;
CREATE FUNCTION validation.raise_claim_lost(p_chunk uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION '%', coalesce((SELECT c.state FROM validation_chunks c WHERE c.chunk_id = p_chunk), 'unknown')
        USING ERRCODE = 'VF001';
END
$$;
ALTER FUNCTION validation.raise_claim_lost(p_chunk uuid) OWNER TO validation_owner;
CREATE FUNCTION validation.record_shard(p_shard jsonb, p_chunk uuid, p_videos jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
DECLARE
    v_new validation_shards;
BEGIN
    INSERT INTO validation_shards (shard_key, shard_sha256, shard_bytes, videos, segments, suite, models, chunk_id)
    SELECT p_shard ->> 'key', p_shard ->> 'sha256', (p_shard ->> 'size_bytes')::bigint,
           count(*), sum((v ->> 'segments')::integer), p_shard ->> 'suite', coalesce(p_shard -> 'models', '{}'), p_chunk
    FROM jsonb_array_elements(p_videos) v
    RETURNING * INTO v_new;
    WITH stood AS MATERIALIZED (
        SELECT r.shard_key, r.video_id
        FROM validation_results r
        JOIN jsonb_array_elements(p_videos) v ON v ->> 'video_id' = r.video_id
        WHERE r.suite = v_new.suite AND r.revision = v_new.revision AND r.superseded_at IS NULL
        ORDER BY r.video_id
        FOR NO KEY UPDATE OF r
    )
    UPDATE validation_results r SET superseded_at = now()
    FROM stood
    WHERE r.shard_key = stood.shard_key AND r.video_id = stood.video_id;
    INSERT INTO validation_results (shard_key, video_id, suite, revision, segments)
    SELECT v_new.shard_key, v ->> 'video_id', v_new.suite, v_new.revision, (v ->> 'segments')::integer
    FROM jsonb_array_elements(p_videos) v;
END
$$;
ALTER FUNCTION validation.record_shard(p_shard jsonb, p_chunk uuid, p_videos jsonb) OWNER TO validation_owner;
CREATE FUNCTION validation.register_worker(p_worker text, p_gpu_type text, p_gpu_vram_gb real, p_config jsonb, p_prefect_worker text, p_succeeds text, p_max_crashes integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $_$
DECLARE
    v_dead     validation_chunks;
    v_other    text;
    v_released integer := 0;
BEGIN
    PERFORM require_box(p_worker);
    PERFORM require_trust(p_worker);
    IF octet_length(p_config::text) > 65536 THEN
        RAISE EXCEPTION 'worker %: a configuration of more than 64 KiB', p_worker USING ERRCODE = 'VF002';
    END IF;
    IF p_config -> 'budgets' ->> 'flow_runs' !~ '^[0-9]{1,2}$' THEN
        RAISE EXCEPTION 'worker %: no number of runs that a worker takes at once', p_worker USING ERRCODE = 'VF002';
    END IF;
    PERFORM lock_worker(p_worker);  -- of two machines that start at once, one waits and is refused
    SELECT w.config_json ->> 'instance' INTO v_other
    FROM worker_validators w
    WHERE w.worker_id = p_worker
      AND w.status IN ('online', 'draining') AND w.last_heartbeat_at > now() - interval '60 seconds'
      AND w.config_json ->> 'instance' <> p_config ->> 'instance'
      AND w.config_json ->> 'instance' IS DISTINCT FROM p_succeeds;
    IF FOUND THEN
        RAISE EXCEPTION '%', v_other USING ERRCODE = 'VF004';
    END IF;
    FOR v_dead IN
        SELECT * FROM validation_chunks c WHERE c.worker_id = p_worker AND c.state = 'open' FOR NO KEY UPDATE
    LOOP
        PERFORM expire_chunk(v_dead, 'worker restarted', greatest(p_max_crashes, 3));
        v_released := v_released + 1;
    END LOOP;
    INSERT INTO worker_validators (worker_id, gpu_type, gpu_vram_gb, config_json, prefect_worker)
    VALUES (p_worker, left(p_gpu_type, 200), p_gpu_vram_gb, p_config, left(p_prefect_worker, 200))
    ON CONFLICT (worker_id) DO UPDATE
    SET status            = 'online',
        gpu_type          = excluded.gpu_type,
        gpu_vram_gb       = excluded.gpu_vram_gb,
        config_json       = excluded.config_json,
        prefect_worker    = excluded.prefect_worker,
        started_at        = now(),
        last_heartbeat_at = now();
    RETURN v_released;
END
$_$;
ALTER FUNCTION validation.register_worker(p_worker text, p_gpu_type text, p_gpu_vram_gb real, p_config jsonb, p_prefect_worker text, p_succeeds text, p_max_crashes integer) OWNER TO validation_owner;
CREATE FUNCTION validation.release_chunk(p_chunk uuid, p_reason text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_old      validation_chunks;
    v_returned integer;
BEGIN
    SELECT * INTO v_old FROM validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM raise_claim_lost(p_chunk);
    END IF;
    PERFORM require_box(v_old.worker_id);
    v_returned := return_videos(p_chunk);
    PERFORM close_without_shard(v_old, 'released', left(p_reason, 2000));
    RETURN v_returned;
END
$$;
ALTER FUNCTION validation.release_chunk(p_chunk uuid, p_reason text) OWNER TO validation_owner;
CREATE FUNCTION validation.release_stranded_videos(p_older_than_s integer) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
    WITH stranded AS (
        UPDATE video_queue q
        SET validation_status = 'pending', validation_chunk = NULL, claimed_by = NULL
        WHERE q.validation_status = 'validating'
          AND q.claimed_at < now() - make_interval(secs => p_older_than_s)
          AND NOT EXISTS (SELECT FROM validation_chunks c WHERE c.chunk_id = q.validation_chunk AND c.state = 'open')
        RETURNING 1
    )
    SELECT count(*)::integer FROM stranded;
$$;
ALTER FUNCTION validation.release_stranded_videos(p_older_than_s integer) OWNER TO validation_owner;
CREATE FUNCTION validation.renew_chunk(p_chunk uuid, p_worker text, p_lease_s integer, p_progress jsonb) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_old validation_chunks;
    v_new validation_chunks;
BEGIN
    SELECT * INTO v_old FROM validation_chunks c
    WHERE c.chunk_id = p_chunk AND c.worker_id = p_worker AND c.state = 'open'
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM raise_claim_lost(p_chunk);
    END IF;
    UPDATE validation_chunks c
    SET lease_expires_at = now() + make_interval(secs => greatest(least(p_lease_s, 3600), 10)),
        videos_validated = (p_progress ->> 'videos_validated')::integer,
        videos_failed    = (p_progress ->> 'videos_failed')::integer,
        segments         = require_segments((p_progress ->> 'segments')::bigint, c.videos_claimed),
        segments_per_s   = greatest(least(coalesce((p_progress ->> 'segments_per_s')::real, 0), 1e6), 0),
        renewed_at       = now()
    WHERE c.chunk_id = p_chunk
    RETURNING * INTO v_new;
    PERFORM heartbeat_worker(p_worker, p_progress ->> 'current_video_id', p_progress ->> 'last_error');
    PERFORM mirror_worker(
        p_worker,
        v_new.videos_validated - v_old.videos_validated,
        v_new.videos_failed    - v_old.videos_failed,
        v_new.segments         - v_old.segments);
    RETURN v_new.lease_expires_at;
END
$$;
ALTER FUNCTION validation.renew_chunk(p_chunk uuid, p_worker text, p_lease_s integer, p_progress jsonb) OWNER TO validation_owner;
CREATE FUNCTION validation.requeue_videos(p_video_ids text[], p_status text, p_languages text[], p_worker text, p_suite text, p_revision text, p_lacking jsonb, p_dry_run boolean) RETURNS TABLE(language text, status text, videos bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
#variable_conflict use_column
DECLARE
    v_ids text[];
BEGIN
    SELECT coalesce(array_agg(q.video_id), '{}') INTO v_ids
    FROM video_queue q
    WHERE q.status = 'done' AND q.validation_status IN ('validated', 'validation_failed')
      AND (p_status    IS NULL OR q.validation_status = p_status)
      AND (p_video_ids IS NULL OR q.video_id = ANY (p_video_ids))
      AND (p_languages IS NULL OR q.language = ANY (p_languages))
      AND (p_worker    IS NULL OR EXISTS (
              SELECT FROM validation_chunks c WHERE c.chunk_id = q.validation_chunk AND p_worker IN (c.worker_id, c.machine))
           OR q.video_id IN (SELECT r.video_id FROM standing_results r WHERE p_worker IN (r.worker_id, r.machine)))
      AND (coalesce(p_suite, p_revision) IS NULL OR EXISTS (
              SELECT FROM validation_results r
              WHERE r.video_id = q.video_id AND r.superseded_at IS NULL
                AND (p_suite IS NULL OR r.suite = p_suite) AND (p_revision IS NULL OR r.revision = p_revision)))
      AND (p_lacking   IS NULL OR q.validation_status = 'validated' AND EXISTS (
              SELECT FROM jsonb_each_text(p_lacking) wanted
              WHERE NOT EXISTS (
                  SELECT FROM validation_results r JOIN validation_shards s USING (shard_key)
                  WHERE r.video_id = q.video_id AND r.superseded_at IS NULL
                    AND (p_suite IS NULL OR r.suite = p_suite)
                    AND s.models ->> wanted.key IS NOT NULL
                    AND (wanted.value IS NULL OR s.models ->> wanted.key = wanted.value))));
    RETURN QUERY
    SELECT coalesce(q.language, 'unknown'), q.validation_status, count(*)
    FROM video_queue q
    WHERE q.video_id = ANY (v_ids)
    GROUP BY 1, 2
    ORDER BY 3 DESC, 1, 2;
    IF NOT p_dry_run THEN
        UPDATE video_queue q
        SET validation_status = 'pending', validation_chunk = NULL, validation_error = NULL, claimed_by = NULL,
            validation_attempts = 0, validation_crashes = 0, validation_losses = 0,
            validation_not_before = 'epoch',
            validation_models = (SELECT array_agg(wanted.key ORDER BY wanted.key) FROM jsonb_each(p_lacking) wanted)
        WHERE q.video_id = ANY (v_ids) AND q.validation_status IN ('validated', 'validation_failed');
    END IF;
END
$$;
ALTER FUNCTION validation.requeue_videos(p_video_ids text[], p_status text, p_languages text[], p_worker text, p_suite text, p_revision text, p_lacking jsonb, p_dry_run boolean) OWNER TO validation_owner;
CREATE FUNCTION validation.require_box(p_worker text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    IF pg_has_role(session_user, 'validation_control', 'member') OR NOT EXISTS (SELECT FROM box_keys) THEN
        RETURN;
    ELSIF NOT EXISTS (
        SELECT FROM box_keys k
        LEFT JOIN fleet_instances i ON i.label = k.label
        WHERE k.worker_id = p_worker
          AND k.key_sha256 = sha256(convert_to(current_setting('vfleet.box_key', true), 'UTF8'))
          AND (k.label IS NULL OR i.state NOT IN ('destroyed', 'gone'))
    ) THEN
        RAISE EXCEPTION '%', p_worker USING ERRCODE = 'VF007';
    END IF;
END
$$;
ALTER FUNCTION validation.require_box(p_worker text) OWNER TO validation_owner;
CREATE FUNCTION validation.require_instance(p_worker text, p_instance text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
DECLARE
    v_holder text;
BEGIN
    PERFORM require_box(p_worker);
    IF p_instance IS NULL THEN
        RETURN;
    END IF;
    PERFORM lock_worker(p_worker);  -- register_worker takes it too
    SELECT w.config_json ->> 'instance' INTO v_holder FROM worker_validators w WHERE w.worker_id = p_worker;
    IF FOUND AND v_holder <> p_instance THEN
        RAISE EXCEPTION '%', v_holder USING ERRCODE = 'VF004';
    END IF;
END
$$;
ALTER FUNCTION validation.require_instance(p_worker text, p_instance text) OWNER TO validation_owner;
CREATE FUNCTION validation.require_room(p_worker text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    IF NOT pg_has_role(session_user, 'validation_control', 'member')
       AND (SELECT count(*) FROM validation_chunks c WHERE c.worker_id = p_worker AND c.state = 'open') >= 16 THEN
        RAISE EXCEPTION 'worker % holds 16 open chunks: it gets no more', p_worker USING ERRCODE = 'VF006';
    END IF;
END
$$;
ALTER FUNCTION validation.require_room(p_worker text) OWNER TO validation_owner;
CREATE FUNCTION validation.require_segments(p_segments bigint, p_videos integer) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    IF p_segments NOT BETWEEN 0 AND 100000 * p_videos::bigint THEN
        RAISE EXCEPTION '% segments in % videos', p_segments, p_videos USING ERRCODE = 'VF002';
    END IF;
    RETURN p_segments;
END
$$;
ALTER FUNCTION validation.require_segments(p_segments bigint, p_videos integer) OWNER TO validation_owner;
CREATE FUNCTION validation.require_trust(p_worker text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
BEGIN
    -- The first condition reads an index that is nearly always empty: a fleet beyond doubt pays nothing.
    IF EXISTS (SELECT FROM canary_judgements j WHERE j.outcome = 'wrong' AND j.pardoned_at IS NULL)
       AND EXISTS (SELECT FROM distrusted_workers d
                   WHERE d.worker_id = p_worker AND d.is_present AND NOT d.is_excused) THEN
        RAISE EXCEPTION '%', p_worker USING ERRCODE = 'VF008';
    END IF;
END
$$;
ALTER FUNCTION validation.require_trust(p_worker text) OWNER TO validation_owner;
CREATE FUNCTION validation.retire_worker(p_worker text, p_instance text DEFAULT NULL::text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '5s'
    AS $$
DECLARE
    v_chunk    uuid;
    v_released integer := 0;
BEGIN
    PERFORM require_instance(p_worker, p_instance);
    FOR v_chunk IN
        SELECT c.chunk_id FROM validation_chunks c WHERE c.worker_id = p_worker AND c.state = 'open' FOR NO KEY UPDATE
    LOOP
        PERFORM release_chunk(v_chunk, 'worker retired');
        v_released := v_released + 1;
    END LOOP;
    UPDATE worker_validators w
    SET status = 'offline', current_video_id = NULL, last_heartbeat_at = now()
    WHERE w.worker_id = p_worker;
    RETURN v_released;
END
$$;
ALTER FUNCTION validation.retire_worker(p_worker text, p_instance text) OWNER TO validation_owner;
CREATE FUNCTION validation.return_crashed_videos(p_chunk uuid, p_is_crash boolean, p_max_crashes integer) RETURNS TABLE(returned integer, failed integer)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    WITH held AS (
        SELECT q.video_id, q.validation_crashes, q.validation_losses,
               p_is_crash OR q.validation_losses >= 3 AS is_crash
        FROM video_queue q
        WHERE q.validation_chunk = p_chunk AND q.validation_status = 'validating'
        FOR NO KEY UPDATE
    ), counted AS (
        SELECT h.video_id,
               h.validation_crashes + h.is_crash::integer                    AS crashes,
               CASE WHEN h.is_crash THEN 0 ELSE h.validation_losses + 1 END AS losses
        FROM held h
    ), touched AS (
        UPDATE video_queue q
        SET validation_status   = CASE WHEN c.crashes < p_max_crashes THEN 'pending' ELSE 'validation_failed' END,
            validation_chunk    = CASE WHEN c.crashes < p_max_crashes THEN NULL ELSE p_chunk END,
            validation_error    = CASE WHEN c.crashes < p_max_crashes THEN q.validation_error
                                       ELSE format('poison: its process died %s times', c.crashes) END,
            validation_attempts = q.validation_attempts - 1,
            validation_crashes  = c.crashes,
            validation_losses   = c.losses,
            claimed_by          = NULL
        FROM counted c
        WHERE q.video_id = c.video_id
        RETURNING q.validation_status
    )
    SELECT count(*) FILTER (WHERE validation_status = 'pending')::integer,
           count(*) FILTER (WHERE validation_status = 'validation_failed')::integer
    FROM touched;
$$;
ALTER FUNCTION validation.return_crashed_videos(p_chunk uuid, p_is_crash boolean, p_max_crashes integer) OWNER TO validation_owner;
CREATE FUNCTION validation.return_videos(p_chunk uuid) RETURNS integer
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    WITH returned AS (
        UPDATE video_queue q
        SET validation_status   = 'pending',
            validation_chunk    = NULL,
            validation_attempts = q.validation_attempts - 1,
            claimed_by          = NULL
        WHERE q.validation_chunk = p_chunk AND q.validation_status = 'validating'
        RETURNING 1
    )
    SELECT count(*)::integer FROM returned;
$$;
ALTER FUNCTION validation.return_videos(p_chunk uuid) OWNER TO validation_owner;
CREATE FUNCTION validation.schema_revision() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $$
    SELECT version_num FROM validation.alembic_version;
$$;
ALTER FUNCTION validation.schema_revision() OWNER TO validation_owner;
CREATE FUNCTION validation.shard_key_of(p_chunk public.validation_chunks) RETURNS text
    LANGUAGE sql IMMUTABLE SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    AS $_$
    SELECT format('shards/%1$s/validation_%1$s_shard_%2$s.parquet', p_chunk.worker_id,
                  lpad(p_chunk.shard_number::text, greatest(4, length(p_chunk.shard_number::text)), '0'));
$_$;
ALTER FUNCTION validation.shard_key_of(p_chunk public.validation_chunks) OWNER TO validation_owner;
CREATE FUNCTION validation.sweep_stale_claims(p_ended_runs uuid[], p_ended_ago_s double precision[], p_max_crashes integer) RETURNS TABLE(chunk_id uuid, worker_id text, flow_run_id uuid, reason text, videos_returned integer, videos_failed integer)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'validation', 'public', 'pg_temp'
    SET lock_timeout TO '500ms'
    AS $$
#variable_conflict use_column
DECLARE
    v_dead validation_chunks;
BEGIN
    FOR v_dead IN
        SELECT * FROM validation_chunks c
        WHERE c.state = 'open'
          AND (c.lease_expires_at < now()
               OR EXISTS (
                   SELECT FROM unnest(p_ended_runs, p_ended_ago_s) AS ended (run, ago_s)
                   WHERE ended.run = c.flow_run_id
                     -- The end is dated by the box's clock, which may be wrong by so much.
                     AND c.renewed_at < now() - make_interval(secs => ended.ago_s) + interval '10 seconds')
                  AND has_outlived(c))
        ORDER BY c.worker_id
        FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        BEGIN
            chunk_id    := v_dead.chunk_id;
            worker_id   := v_dead.worker_id;
            flow_run_id := v_dead.flow_run_id;
            reason      := CASE WHEN v_dead.lease_expires_at < now() THEN 'lease expired' ELSE 'flow run ended' END;
            SELECT e.returned, e.failed INTO videos_returned, videos_failed
            FROM expire_chunk(v_dead, reason, p_max_crashes) e;
            RETURN NEXT;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
END
$$;
ALTER FUNCTION validation.sweep_stale_claims(p_ended_runs uuid[], p_ended_ago_s double precision[], p_max_crashes integer) OWNER TO validation_owner;
CREATE TABLE public.fleet_blacklist (
    kind text NOT NULL,
    vendor_id bigint NOT NULL,
    reason text NOT NULL,
    host_id bigint NOT NULL,
    banned_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT fleet_blacklist_check CHECK ((expires_at > banned_at)),
    CONSTRAINT fleet_blacklist_kind_check CHECK ((kind = ANY (ARRAY['machine'::text, 'host'::text])))
);
ALTER TABLE public.fleet_blacklist OWNER TO validation_owner;
CREATE TABLE public.fleet_credit_readings (
    fleet text NOT NULL,
    read_at timestamp with time zone NOT NULL,
    credit_usd numeric NOT NULL,
    spent_usd numeric NOT NULL
);
ALTER TABLE public.fleet_credit_readings OWNER TO validation_owner;
CREATE TABLE public.fleet_instances (
    label text NOT NULL,
    fleet text NOT NULL,
    slot integer NOT NULL,
    worker_id text NOT NULL,
    state text DEFAULT 'requested'::text NOT NULL,
    offer_id bigint NOT NULL,
    machine_id bigint NOT NULL,
    host_id bigint NOT NULL,
    gpu_name text NOT NULL,
    usd_per_hour numeric NOT NULL,
    usd_once numeric NOT NULL,
    boot_within_s integer NOT NULL,
    instance_id bigint,
    requested_at timestamp with time zone NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    vendor_status text,
    vendor_status_since timestamp with time zone,
    vendor_message text,
    last_seen_at timestamp with time zone,
    absences integer DEFAULT 0 NOT NULL,
    last_absence_at timestamp with time zone,
    first_running_at timestamp with time zone,
    accepted_at timestamp with time zone,
    slow_since timestamp with time zone,
    reason text,
    billed_until timestamp with time zone,
    closed_at timestamp with time zone,
    CONSTRAINT fleet_instances_absences_check CHECK ((absences >= 0)),
    CONSTRAINT fleet_instances_accepted_before_work CHECK (((state <> 'working'::text) OR (accepted_at IS NOT NULL))),
    CONSTRAINT fleet_instances_boot_within_s_check CHECK ((boot_within_s > 0)),
    CONSTRAINT fleet_instances_closed_iff_gone CHECK ((((state = 'gone'::text) = (closed_at IS NOT NULL)) AND ((closed_at IS NULL) OR (billed_until IS NOT NULL)))),
    CONSTRAINT fleet_instances_leaves_for_a_reason CHECK (((state = ANY (ARRAY['requested'::text, 'renting'::text, 'working'::text])) OR (reason IS NOT NULL))),
    CONSTRAINT fleet_instances_rented_has_an_id CHECK (((state = ANY (ARRAY['requested'::text, 'gone'::text])) OR (instance_id IS NOT NULL))),
    CONSTRAINT fleet_instances_slot_check CHECK ((slot >= 1)),
    CONSTRAINT fleet_instances_state_is_known CHECK ((state = ANY (ARRAY['requested'::text, 'renting'::text, 'working'::text, 'draining'::text, 'destroying'::text, 'destroyed'::text, 'gone'::text]))),
    CONSTRAINT fleet_instances_usd_once_check CHECK ((usd_once >= (0)::numeric)),
    CONSTRAINT fleet_instances_usd_per_hour_check CHECK ((usd_per_hour >= (0)::numeric))
);
ALTER TABLE public.fleet_instances OWNER TO validation_owner;
CREATE TABLE public.fleets (
    fleet text NOT NULL,
    label_prefix text NOT NULL,
    machines integer NOT NULL,
    max_usd_per_hour numeric NOT NULL,
    max_usd numeric NOT NULL,
    order_json jsonb NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    turn_holder uuid,
    turn_ends_at timestamp with time zone,
    searched_at timestamp with time zone,
    searches_today integer DEFAULT 0 NOT NULL,
    abandoned boolean DEFAULT false NOT NULL,
    CONSTRAINT fleets_abandoned_wants_none CHECK (((NOT abandoned) OR (machines = 0))),
    CONSTRAINT fleets_fleet_check CHECK ((fleet ~ '^[a-z0-9][a-z0-9-]{0,30}$'::text)),
    CONSTRAINT fleets_machines_check CHECK ((machines >= 0)),
    CONSTRAINT fleets_max_usd_check CHECK ((max_usd >= (0)::numeric)),
    CONSTRAINT fleets_max_usd_per_hour_check CHECK ((max_usd_per_hour >= (0)::numeric)),
    CONSTRAINT fleets_searches_today_check CHECK ((searches_today >= 0)),
    CONSTRAINT fleets_turn_has_an_end CHECK (((turn_holder IS NULL) = (turn_ends_at IS NULL)))
);
ALTER TABLE public.fleets OWNER TO validation_owner;
CREATE TABLE public.validation_results (
    shard_key text NOT NULL,
    video_id text NOT NULL,
    suite text NOT NULL,
    revision text NOT NULL,
    segments integer NOT NULL,
    superseded_at timestamp with time zone
);
ALTER TABLE public.validation_results OWNER TO validation_owner;
CREATE TABLE public.validation_shards (
    shard_key text NOT NULL,
    shard_sha256 text NOT NULL,
    shard_bytes bigint NOT NULL,
    videos integer NOT NULL,
    segments integer NOT NULL,
    suite text NOT NULL,
    models jsonb NOT NULL,
    revision text GENERATED ALWAYS AS ("left"(md5((models)::text), 12)) STORED,
    chunk_id uuid,
    committed_at timestamp with time zone DEFAULT now() NOT NULL,
    deleted_at timestamp with time zone,
    CONSTRAINT validation_shards_holds_something CHECK (((videos > 0) AND (segments >= 0))),
    CONSTRAINT validation_shards_sha256_is_hex CHECK ((shard_sha256 ~ '^[0-9a-f]{64}$'::text))
);
ALTER TABLE public.validation_shards OWNER TO validation_owner;
CREATE TABLE public.video_queue (
    video_id text NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    language text,
    segment_count integer,
    claimed_by text,
    claimed_at timestamp with time zone,
    validation_status text DEFAULT 'pending'::text NOT NULL,
    validation_chunk uuid,
    validation_attempts smallint DEFAULT 0 NOT NULL,
    validation_crashes smallint DEFAULT 0 NOT NULL,
    validation_not_before timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    validation_error text,
    validation_segments integer,
    validated_at timestamp with time zone,
    validation_models text[],
    validation_losses smallint DEFAULT 0 NOT NULL,
    CONSTRAINT video_queue_validation_is_legal CHECK (
CASE validation_status
    WHEN 'pending'::text THEN (validation_chunk IS NULL)
    WHEN 'validating'::text THEN ((validation_chunk IS NOT NULL) AND (claimed_at IS NOT NULL))
    WHEN 'validated'::text THEN ((validation_chunk IS NOT NULL) AND (validated_at IS NOT NULL))
    WHEN 'validation_failed'::text THEN (validation_error IS NOT NULL)
    ELSE false
END)
);
ALTER TABLE public.video_queue OWNER TO postgres;
CREATE TABLE public.worker_validators (
    worker_id text NOT NULL,
    status text DEFAULT 'online'::text NOT NULL,
    gpu_type text,
    gpu_vram_gb real,
    current_video_id text,
    videos_processed integer DEFAULT 0,
    videos_failed integer DEFAULT 0,
    segments_processed integer DEFAULT 0,
    avg_segs_per_second real DEFAULT 0,
    shards_written integer DEFAULT 0,
    shards_uploaded integer DEFAULT 0,
    total_parquet_mb real DEFAULT 0,
    started_at timestamp with time zone DEFAULT now(),
    last_heartbeat_at timestamp with time zone DEFAULT now(),
    last_video_completed_at timestamp with time zone,
    config_json jsonb,
    last_error text,
    flow_run_ids uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    prefect_worker text,
    heard_since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT worker_validators_status_is_known CHECK ((status = ANY (ARRAY['online'::text, 'draining'::text, 'stale'::text, 'offline'::text])))
);
ALTER TABLE public.worker_validators OWNER TO validation_owner;
CREATE TABLE validation.alembic_version (
    version_num character varying(32) NOT NULL
);
ALTER TABLE validation.alembic_version OWNER TO validation_owner;
CREATE VIEW validation.altered_logins AS
 SELECT (l.rolname)::text AS login,
    array_to_string(s.setconfig, ', '::text) AS settings,
    format('ALTER ROLE %I%s RESET ALL'::text, l.rolname, (' IN DATABASE '::text || quote_ident((d.datname)::text))) AS remedy
   FROM ((pg_db_role_setting s
     JOIN pg_roles l ON ((l.oid = s.setrole)))
     LEFT JOIN pg_database d ON ((d.oid = s.setdatabase)))
  WHERE (((s.setdatabase = (0)::oid) OR (d.datname = current_database())) AND pg_has_role(l.oid, 'validation_worker'::name, 'usage'::text) AND (NOT pg_has_role(l.oid, 'validation_control'::name, 'usage'::text)));
ALTER VIEW validation.altered_logins OWNER TO validation_owner;
CREATE TABLE validation.box_keys (
    worker_id text NOT NULL,
    label text,
    key_sha256 bytea NOT NULL,
    issued_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT box_keys_key_sha256_check CHECK ((length(key_sha256) = 32))
);
ALTER TABLE validation.box_keys OWNER TO validation_owner;
CREATE TABLE validation.lent_credentials (
    worker_id text NOT NULL,
    store text NOT NULL,
    access_key_id text NOT NULL,
    secret_access_key text NOT NULL,
    session_token text NOT NULL,
    lent_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    CONSTRAINT lent_credentials_check CHECK ((expires_at > lent_at)),
    CONSTRAINT lent_credentials_store_check CHECK ((store = ANY (ARRAY['source'::text, 'results'::text])))
);
ALTER TABLE validation.lent_credentials OWNER TO validation_owner;
CREATE VIEW validation.box_loans AS
 SELECT k.worker_id,
    k.label,
    k.issued_at,
    (EXTRACT(epoch FROM (min(c.expires_at) - now())))::real AS lasts_s,
    ((count(c.*) < 2) OR (min(((c.expires_at - now()) - ((c.expires_at - c.lent_at) / (2)::double precision))) < '00:00:00'::interval)) AS is_due
   FROM ((validation.box_keys k
     LEFT JOIN validation.lent_credentials c ON ((c.worker_id = k.worker_id)))
     LEFT JOIN public.fleet_instances i ON ((i.label = k.label)))
  WHERE ((k.label IS NULL) OR (i.state <> ALL (ARRAY['destroyed'::text, 'gone'::text])))
  GROUP BY k.worker_id, k.label, k.issued_at
  ORDER BY k.worker_id;
ALTER VIEW validation.box_loans OWNER TO validation_owner;
CREATE TABLE validation.canaries (
    video_id text NOT NULL,
    suite text NOT NULL,
    models jsonb NOT NULL,
    answers jsonb NOT NULL,
    planted_at timestamp with time zone DEFAULT now() NOT NULL,
    basis jsonb DEFAULT '{}'::jsonb NOT NULL,
    CONSTRAINT canaries_answers_check CHECK ((jsonb_array_length(answers) > 0))
);
ALTER TABLE validation.canaries OWNER TO validation_owner;
CREATE TABLE validation.canary_judgements (
    video_id text NOT NULL,
    chunk_id uuid NOT NULL,
    outcome text NOT NULL,
    finding text,
    judged_at timestamp with time zone DEFAULT now() NOT NULL,
    pardoned_at timestamp with time zone,
    CONSTRAINT canary_judgements_outcome_is_known CHECK ((outcome = ANY (ARRAY['right'::text, 'wrong'::text, 'moot'::text]))),
    CONSTRAINT canary_judgements_pardon_the_wrong CHECK (((pardoned_at IS NULL) OR (outcome = 'wrong'::text))),
    CONSTRAINT canary_judgements_say_why CHECK (((outcome = 'right'::text) = (finding IS NULL)))
);
ALTER TABLE validation.canary_judgements OWNER TO validation_owner;
CREATE VIEW validation.canary_results AS
 SELECT n.video_id,
    n.suite,
    n.planted_at,
    jsonb_array_length(n.answers) AS segments,
    c.worker_id,
    c.machine,
    j.outcome,
    j.finding,
    j.judged_at,
    j.pardoned_at
   FROM ((validation.canaries n
     LEFT JOIN validation.canary_judgements j USING (video_id))
     LEFT JOIN public.validation_chunks c USING (chunk_id))
  ORDER BY j.judged_at, n.video_id;
ALTER VIEW validation.canary_results OWNER TO validation_owner;
CREATE VIEW validation.chunk_tallies AS
 WITH validated AS (
         SELECT q.validation_chunk AS chunk_id,
            sum(q.validation_segments) AS segments
           FROM public.video_queue q
          WHERE (q.validation_status = 'validated'::text)
          GROUP BY q.validation_chunk
        ), canaries AS (
         SELECT q.validation_chunk AS chunk_id,
            (- q.validation_segments) AS segments
           FROM (validation.canaries n
             JOIN public.video_queue q USING (video_id))
          WHERE (q.validation_status = 'validated'::text)
        ), counted_before AS (
         SELECT DISTINCT ON (q.video_id) c_1.chunk_id,
            before.segments
           FROM ((((public.validation_chunks silent
             JOIN public.validation_results own ON ((own.shard_key = silent.shard_key)))
             JOIN public.video_queue q ON (((q.video_id = own.video_id) AND (q.validation_chunk = silent.chunk_id))))
             JOIN public.validation_results before ON ((before.video_id = q.video_id)))
             JOIN public.validation_chunks c_1 ON (((c_1.shard_key = before.shard_key) AND (c_1.audio_s IS NOT NULL))))
          WHERE ((silent.state = 'committed'::text) AND (silent.audio_s IS NULL) AND (q.validation_status = 'validated'::text) AND (NOT (EXISTS ( SELECT
                   FROM validation.canaries n
                  WHERE (n.video_id = q.video_id)))))
          ORDER BY q.video_id, c_1.closed_at DESC
        ), stands AS (
         SELECT shares.chunk_id,
            sum(shares.segments) AS segments
           FROM ( SELECT validated.chunk_id,
                    validated.segments
                   FROM validated
                UNION ALL
                 SELECT canaries.chunk_id,
                    canaries.segments
                   FROM canaries
                UNION ALL
                 SELECT counted_before.chunk_id,
                    counted_before.segments
                   FROM counted_before) shares
          GROUP BY shares.chunk_id
        )
 SELECT c.chunk_id,
    (c.audio_s * left_of.share) AS audio_s,
    ((c.segments_accepted)::double precision * left_of.share) AS accepted,
    ((c.segments_review)::double precision * left_of.share) AS review,
    ((c.segments_rejected)::double precision * left_of.share) AS rejected
   FROM ((stands
     JOIN public.validation_chunks c ON (((c.chunk_id = stands.chunk_id) AND (c.audio_s IS NOT NULL))))
     CROSS JOIN LATERAL ( SELECT COALESCE(((stands.segments)::double precision / (NULLIF(c.segments, 0))::double precision), (0)::double precision) AS share) left_of);
ALTER VIEW validation.chunk_tallies OWNER TO validation_owner;
CREATE VIEW validation.closing_chunks AS
 SELECT chunk_id,
    worker_id,
    flow_run_id,
    closed_at
   FROM public.validation_chunks c
  WHERE ((state = ANY (ARRAY['committed'::text, 'released'::text])) AND (closed_at > (now() - '00:01:00'::interval)));
ALTER VIEW validation.closing_chunks OWNER TO validation_owner;
CREATE VIEW validation.committed_shards AS
 SELECT s.shard_key,
    s.shard_sha256,
    s.shard_bytes,
    s.segments,
    s.videos AS videos_validated,
    s.suite,
    s.chunk_id,
    c.worker_id,
    c.flow_run_id,
    s.committed_at AS closed_at,
    s.revision,
    s.models,
    since.revision_since,
    stands.superseded,
    stands.withheld
   FROM (((public.validation_shards s
     JOIN ( SELECT r.shard_key,
            COALESCE(array_agg(r.video_id) FILTER (WHERE (r.superseded_at IS NOT NULL)), '{}'::text[]) AS superseded,
            COALESCE(array_agg(r.video_id) FILTER (WHERE ((r.superseded_at IS NOT NULL) OR (n.video_id IS NOT NULL))), '{}'::text[]) AS withheld
           FROM (public.validation_results r
             LEFT JOIN validation.canaries n USING (video_id))
          GROUP BY r.shard_key
         HAVING bool_or((r.superseded_at IS NULL))) stands USING (shard_key))
     JOIN ( SELECT validation_shards.suite,
            validation_shards.revision,
            min(validation_shards.committed_at) AS revision_since
           FROM public.validation_shards
          GROUP BY validation_shards.suite, validation_shards.revision) since ON (((since.suite = s.suite) AND (since.revision = s.revision))))
     LEFT JOIN public.validation_chunks c USING (chunk_id))
  ORDER BY s.shard_key;
ALTER VIEW validation.committed_shards OWNER TO validation_owner;
CREATE VIEW validation.cost_so_far AS
 SELECT spent.usd AS spent_usd,
    spent.usd_per_hour,
    (heard.audio_s / (3600)::numeric) AS audio_hours,
    (spent.usd / NULLIF(((heard.audio_s / (3600)::numeric) / (1000)::numeric), (0)::numeric)) AS usd_per_1000_audio_hours
   FROM (( SELECT sum(validation.fleet_spent(f.fleet)) AS usd,
            sum(b.usd_per_hour) AS usd_per_hour
           FROM (public.fleets f
             JOIN ( SELECT fleet_instances.fleet,
                    COALESCE(sum(fleet_instances.usd_per_hour) FILTER (WHERE (fleet_instances.state <> 'gone'::text)), (0)::numeric) AS usd_per_hour
                   FROM public.fleet_instances
                  GROUP BY fleet_instances.fleet) b USING (fleet))) spent
     CROSS JOIN ( SELECT (sum(chunk_tallies.audio_s))::numeric AS audio_s
           FROM validation.chunk_tallies) heard);
ALTER VIEW validation.cost_so_far OWNER TO validation_owner;
CREATE VIEW validation.distrusted_workers AS
 WITH said AS (
         SELECT c.worker_id,
            c.machine,
            j.video_id,
            j.finding,
            j.judged_at,
            ((j.outcome = 'wrong'::text) AND (j.pardoned_at IS NULL)) AS is_wrong
           FROM (validation.canary_judgements j
             JOIN public.validation_chunks c USING (chunk_id))
          WHERE (j.outcome <> 'moot'::text)
        ), accused AS (
         SELECT said.worker_id,
            said.machine,
            count(*) AS judged,
            count(*) FILTER (WHERE said.is_wrong) AS wrong,
            min(said.judged_at) FILTER (WHERE said.is_wrong) AS since,
            (array_agg(((said.video_id || ': '::text) || said.finding) ORDER BY said.judged_at, said.video_id) FILTER (WHERE said.is_wrong))[1] AS finding
           FROM said
          GROUP BY said.worker_id, said.machine
         HAVING bool_or(said.is_wrong)
        )
 SELECT a.worker_id,
    a.machine,
    COALESCE(a.machine, a.worker_id) AS known_as,
    a.judged,
    a.wrong,
    a.since,
    a.finding,
    (NOT (k.label IS DISTINCT FROM a.machine)) AS is_present,
    ((peers.wrong >= 3) AND ((peers.wrong)::numeric > (0.3 * (peers.machines)::numeric))) AS is_excused
   FROM ((accused a
     LEFT JOIN validation.box_keys k USING (worker_id))
     CROSS JOIN LATERAL ( SELECT count(DISTINCT ROW(s.worker_id, s.machine)) AS machines,
            count(DISTINCT ROW(s.worker_id, s.machine)) FILTER (WHERE s.is_wrong) AS wrong
           FROM said s
          WHERE ((s.judged_at >= (a.since - '1 day'::interval)) AND (s.judged_at <= (a.since + '1 day'::interval)))) peers)
  ORDER BY a.since;
ALTER VIEW validation.distrusted_workers OWNER TO validation_owner;
CREATE VIEW validation.eta AS
 WITH recent AS (
         SELECT c.claimed_at,
            c.closed_at,
            (c.videos_validated + ( SELECT count(*) AS count
                   FROM public.video_queue q
                  WHERE ((q.validation_chunk = c.chunk_id) AND (q.validation_status = 'validation_failed'::text)))) AS videos
           FROM public.validation_chunks c
          WHERE ((c.state = 'committed'::text) AND (c.closed_at > (now() - '01:00:00'::interval)))
        ), rate AS (
         SELECT (sum(recent.videos) / NULLIF(LEAST(EXTRACT(epoch FROM (now() - min(recent.claimed_at))), (3600)::numeric), (0)::numeric)) AS videos_per_s
           FROM recent
        ), block AS (
         SELECT COALESCE(sum(r.videos), (0)::numeric) AS videos
           FROM (generate_series(0, 11) n(n)
             LEFT JOIN recent r ON (((r.closed_at <= (now() - ((n.n)::double precision * '00:05:00'::interval))) AND (r.closed_at > (now() - (((n.n + 1))::double precision * '00:05:00'::interval))))))
          WHERE ((now() - (((n.n + 1))::double precision * '00:05:00'::interval)) >= ( SELECT min(recent.closed_at) AS min
                   FROM recent))
          GROUP BY n.n
        ), error AS (
         SELECT (((((ARRAY[NULL::numeric, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796])[(count(*) - 1)] * stddev_samp(block.videos)) / NULLIF(avg(block.videos), (0)::numeric)))::double precision / sqrt((count(*))::double precision)) AS share
           FROM block
        ), remaining AS (
         SELECT count(*) AS videos_left
           FROM public.video_queue
          WHERE ((video_queue.status = 'done'::text) AND (video_queue.validation_status = ANY (ARRAY['pending'::text, 'validating'::text])))
        )
 SELECT remaining.videos_left,
    (rate.videos_per_s)::real AS videos_per_s,
    (((remaining.videos_left)::numeric / NULLIF(rate.videos_per_s, (0)::numeric)))::real AS seconds_left,
    (now() + make_interval(secs => (((remaining.videos_left)::numeric / NULLIF(rate.videos_per_s, (0)::numeric)))::double precision)) AS empty_at,
    (((remaining.videos_left)::double precision / NULLIF(((rate.videos_per_s)::double precision * ((1)::double precision + error.share)), (0)::double precision)))::real AS seconds_left_least,
    (((remaining.videos_left)::double precision / NULLIF(((rate.videos_per_s)::double precision * GREATEST(((1)::double precision - error.share), (0)::double precision)), (0)::double precision)))::real AS seconds_left_most
   FROM ((remaining
     CROSS JOIN rate)
     CROSS JOIN error);
ALTER VIEW validation.eta OWNER TO validation_owner;
CREATE VIEW validation.fleet_bans AS
 SELECT kind,
    vendor_id,
    reason,
    host_id,
    banned_at,
    expires_at
   FROM public.fleet_blacklist b
  WHERE (expires_at > validation.fleet_now())
  ORDER BY kind, vendor_id;
ALTER VIEW validation.fleet_bans OWNER TO validation_owner;
CREATE VIEW validation.fleet_budget AS
 SELECT f.fleet,
    validation.fleet_now() AS now,
    f.label_prefix,
    f.machines,
    f.max_usd_per_hour,
    f.max_usd,
    f.order_json,
    COALESCE(i.usd_per_hour, (0)::numeric) AS usd_per_hour,
    validation.fleet_spent(f.fleet) AS spent_usd,
    ( SELECT count(*) AS count
           FROM public.video_queue q
          WHERE ((q.status = 'done'::text) AND (q.validation_status = 'pending'::text))) AS videos_waiting,
    ( SELECT count(*) AS count
           FROM public.validation_chunks c
          WHERE (c.state = 'open'::text)) AS chunks_open,
    f.abandoned
   FROM (public.fleets f
     LEFT JOIN ( SELECT fleet_instances.fleet,
            sum(fleet_instances.usd_per_hour) AS usd_per_hour
           FROM public.fleet_instances
          WHERE (fleet_instances.state <> 'gone'::text)
          GROUP BY fleet_instances.fleet) i USING (fleet))
  ORDER BY f.fleet;
ALTER VIEW validation.fleet_budget OWNER TO validation_owner;
CREATE VIEW validation.fleet_machines AS
 SELECT i.fleet,
    i.label,
    i.slot,
    i.worker_id,
    i.state,
    i.offer_id,
    i.machine_id,
    i.host_id,
    i.gpu_name,
    i.usd_per_hour,
    i.usd_once,
    i.boot_within_s,
    i.instance_id,
    i.requested_at,
    i.changed_at,
    i.vendor_status,
    i.vendor_status_since,
    i.vendor_message,
    i.absences,
    i.first_running_at,
    i.accepted_at,
    i.slow_since,
    i.reason,
    i.closed_at,
    w.last_heartbeat_at AS heartbeat_at,
    COALESCE(w.avg_segs_per_second, (0)::real) AS segments_per_s,
    w.last_video_completed_at AS video_completed_at,
    COALESCE(cardinality(w.flow_run_ids), 0) AS open_chunks,
    (((w.config_json -> 'gpus'::text) -> 0) ->> 'name'::text) AS gpu_seen,
    d.finding AS distrust
   FROM ((public.fleet_instances i
     LEFT JOIN public.worker_validators w ON (((w.worker_id = i.worker_id) AND (i.state <> ALL (ARRAY['requested'::text, 'gone'::text])) AND (w.last_heartbeat_at >= i.requested_at))))
     LEFT JOIN validation.distrusted_workers d ON (((d.machine = i.label) AND (NOT d.is_excused))))
  WHERE ((i.state <> 'gone'::text) OR (i.closed_at > (validation.fleet_now() - '00:30:00'::interval)))
  ORDER BY i.fleet, i.slot, i.requested_at;
ALTER VIEW validation.fleet_machines OWNER TO validation_owner;
CREATE VIEW validation.queue_progress AS
 SELECT COALESCE(language, 'unknown'::text) AS language,
    count(*) AS videos,
    count(*) FILTER (WHERE (validation_status = 'pending'::text)) AS pending,
    count(*) FILTER (WHERE (validation_status = 'validating'::text)) AS validating,
    count(*) FILTER (WHERE (validation_status = 'validated'::text)) AS validated,
    count(*) FILTER (WHERE (validation_status = 'validation_failed'::text)) AS failed,
    sum(validation_segments) AS segments,
    count(*) FILTER (WHERE (validation_segments <> segment_count)) AS segment_count_mismatches,
    round(((count(*) FILTER (WHERE (validation_status = ANY (ARRAY['validated'::text, 'validation_failed'::text]))))::numeric / (count(*))::numeric), 4) AS done_share
   FROM public.video_queue
  WHERE (status = 'done'::text)
  GROUP BY COALESCE(language, 'unknown'::text)
  ORDER BY (count(*)) DESC, COALESCE(language, 'unknown'::text);
ALTER VIEW validation.queue_progress OWNER TO validation_owner;
CREATE VIEW validation.worker_liveness AS
 SELECT w.worker_id,
    w.status,
    w.gpu_type,
    w.gpu_vram_gb,
    w.prefect_worker,
    (EXTRACT(epoch FROM (now() - w.last_heartbeat_at)))::real AS silent_s,
        CASE
            WHEN (w.status = 'offline'::text) THEN 'offline'::text
            WHEN (w.last_heartbeat_at > (now() - '00:01:00'::interval)) THEN 'online'::text
            WHEN (w.last_heartbeat_at > (now() - '00:02:00'::interval)) THEN 'late'::text
            ELSE 'stale'::text
        END AS liveness,
    w.current_video_id,
    w.videos_processed,
    w.videos_failed,
    w.segments_processed,
    w.avg_segs_per_second,
    w.shards_uploaded,
    w.total_parquet_mb,
    w.started_at,
    w.last_video_completed_at,
    w.last_error,
    cardinality(w.flow_run_ids) AS open_chunks,
    w.flow_run_ids,
    d.finding AS distrust
   FROM (public.worker_validators w
     LEFT JOIN validation.distrusted_workers d ON (((d.worker_id = w.worker_id) AND d.is_present AND (NOT d.is_excused))))
  ORDER BY w.worker_id;
ALTER VIEW validation.worker_liveness OWNER TO validation_owner;
CREATE VIEW validation.fleet_overview AS
 SELECT ( SELECT count(*) AS count
           FROM validation.worker_liveness
          WHERE (worker_liveness.liveness = 'online'::text)) AS workers_online,
    ( SELECT count(*) AS count
           FROM validation.worker_liveness
          WHERE (worker_liveness.liveness = 'late'::text)) AS workers_late,
    ( SELECT count(*) AS count
           FROM validation.worker_liveness
          WHERE (worker_liveness.liveness = 'stale'::text)) AS workers_stale,
    ( SELECT count(*) AS count
           FROM validation.worker_liveness
          WHERE (worker_liveness.liveness = 'offline'::text)) AS workers_offline,
    ( SELECT sum(worker_liveness.avg_segs_per_second) AS sum
           FROM validation.worker_liveness
          WHERE ((worker_liveness.liveness = 'online'::text) AND (worker_liveness.open_chunks > 0))) AS segments_per_s,
    ( SELECT count(*) AS count
           FROM public.validation_chunks
          WHERE (validation_chunks.state = 'open'::text)) AS chunks_open,
    ( SELECT count(*) AS count
           FROM public.validation_chunks
          WHERE (validation_chunks.state = 'committed'::text)) AS chunks_committed,
    ( SELECT count(*) AS count
           FROM public.validation_chunks
          WHERE (validation_chunks.state = 'expired'::text)) AS chunks_expired,
    p.pending,
    p.validating,
    p.validated,
    p.failed,
    p.segments,
    d.audio_s,
    d.accepted,
    d.review,
    d.rejected
   FROM (( SELECT sum(queue_progress.pending) AS pending,
            sum(queue_progress.validating) AS validating,
            sum(queue_progress.validated) AS validated,
            sum(queue_progress.failed) AS failed,
            sum(queue_progress.segments) AS segments
           FROM validation.queue_progress) p
     CROSS JOIN ( SELECT sum(chunk_tallies.audio_s) AS audio_s,
            (round(sum(chunk_tallies.accepted)))::bigint AS accepted,
            (round(sum(chunk_tallies.review)))::bigint AS review,
            (round(sum(chunk_tallies.rejected)))::bigint AS rejected
           FROM validation.chunk_tallies) d);
ALTER VIEW validation.fleet_overview OWNER TO validation_owner;
CREATE VIEW validation.fleet_spend_check AS
 SELECT fleet,
    COALESCE(sum((credit_before - credit_usd)), (0)::numeric) AS credit_fell_usd,
    COALESCE(sum((spent_usd - spent_before)), (0)::numeric) AS books_rose_usd,
    count(*) AS intervals
   FROM ( SELECT r.fleet,
            r.credit_usd,
            r.spent_usd,
            lag(r.credit_usd) OVER (PARTITION BY r.fleet ORDER BY r.read_at) AS credit_before,
            lag(r.spent_usd) OVER (PARTITION BY r.fleet ORDER BY r.read_at) AS spent_before
           FROM public.fleet_credit_readings r
          WHERE (r.read_at > (validation.fleet_now() - '24:00:00'::interval))) reading
  WHERE (credit_usd <= credit_before)
  GROUP BY fleet
  ORDER BY fleet;
ALTER VIEW validation.fleet_spend_check OWNER TO validation_owner;
CREATE VIEW validation.open_chunks AS
 SELECT chunk_id,
    worker_id,
    shard_number,
    flow_run_id,
    suite,
    claimed_at,
    lease_expires_at,
    (EXTRACT(epoch FROM (now() - claimed_at)))::real AS held_s,
    (EXTRACT(epoch FROM (lease_expires_at - now())))::real AS lease_left_s,
    videos_claimed,
    videos_validated,
    videos_failed,
    segments
   FROM public.validation_chunks c
  WHERE (state = 'open'::text)
  ORDER BY claimed_at;
ALTER VIEW validation.open_chunks OWNER TO validation_owner;
CREATE VIEW validation.progress_history AS
 WITH work AS (
         SELECT GREATEST(min(validation_chunks.claimed_at), (now() - '7 days'::interval)) AS began_at
           FROM public.validation_chunks
          WHERE ((validation_chunks.state = 'committed'::text) AND (validation_chunks.closed_at > (now() - '7 days'::interval)))
         HAVING (count(*) > 0)
        ), scale AS (
         SELECT work.began_at,
                CASE
                    WHEN ((now() - work.began_at) <= '02:00:00'::interval) THEN '00:01:00'::interval
                    WHEN ((now() - work.began_at) <= '1 day'::interval) THEN '00:10:00'::interval
                    ELSE '01:00:00'::interval
                END AS step
           FROM work
        ), steps AS (
         SELECT starts_at.starts_at,
            GREATEST(starts_at.starts_at, scale.began_at) AS from_at,
            LEAST((starts_at.starts_at + scale.step), now()) AS until_at
           FROM (scale
             CROSS JOIN LATERAL generate_series(date_bin(scale.step, scale.began_at, '1970-01-01 00:00:00+00'::timestamp with time zone), now(), scale.step) starts_at(starts_at))
        ), committed AS (
         SELECT date_bin(scale.step, validation_chunks.closed_at, '1970-01-01 00:00:00+00'::timestamp with time zone) AS starts_at,
            count(*) AS chunks,
            sum(validation_chunks.videos_validated) AS videos,
            sum(validation_chunks.segments) AS segments,
            sum(validation_chunks.audio_s) AS audio_s,
            sum(validation_chunks.segments_accepted) AS accepted,
            sum(validation_chunks.segments_review) AS review,
            sum(validation_chunks.segments_rejected) AS rejected
           FROM (scale
             CROSS JOIN public.validation_chunks)
          WHERE ((validation_chunks.state = 'committed'::text) AND (validation_chunks.closed_at > (now() - '7 days'::interval)))
          GROUP BY (date_bin(scale.step, validation_chunks.closed_at, '1970-01-01 00:00:00+00'::timestamp with time zone))
        ), failed AS (
         SELECT date_bin(scale.step, c_1.closed_at, '1970-01-01 00:00:00+00'::timestamp with time zone) AS starts_at,
            count(*) AS failed
           FROM ((scale
             CROSS JOIN public.video_queue q)
             JOIN public.validation_chunks c_1 ON ((c_1.chunk_id = q.validation_chunk)))
          WHERE ((q.validation_status = 'validation_failed'::text) AND (c_1.closed_at > (now() - '7 days'::interval)))
          GROUP BY (date_bin(scale.step, c_1.closed_at, '1970-01-01 00:00:00+00'::timestamp with time zone))
        ), billed AS (
         SELECT s_1.starts_at,
            sum((((i.usd_per_hour * EXTRACT(epoch FROM (LEAST(COALESCE(i.billed_until, s_1.until_at), s_1.until_at) - GREATEST(i.requested_at, s_1.from_at)))) / (3600)::numeric) +
                CASE
                    WHEN (i.requested_at >= s_1.from_at) THEN i.usd_once
                    ELSE (0)::numeric
                END)) AS usd
           FROM (steps s_1
             JOIN public.fleet_instances i ON (((i.requested_at < s_1.until_at) AND (COALESCE(i.billed_until, s_1.until_at) > s_1.from_at) AND ((i.state <> 'gone'::text) OR (i.instance_id IS NOT NULL)))))
          GROUP BY s_1.starts_at
        ), remaining AS (
         SELECT count(*) AS videos
           FROM public.video_queue
          WHERE ((video_queue.status = 'done'::text) AND (video_queue.validation_status = ANY (ARRAY['pending'::text, 'validating'::text])))
        )
 SELECT s.starts_at,
    (EXTRACT(epoch FROM (s.until_at - s.from_at)))::real AS lasted_s,
    COALESCE(c.chunks, (0)::bigint) AS chunks,
    COALESCE(c.videos, (0)::bigint) AS videos,
    COALESCE(c.segments, (0)::bigint) AS segments,
    c.audio_s,
    c.accepted,
    c.review,
    c.rejected,
    ((remaining.videos)::numeric + COALESCE(sum((COALESCE(c.videos, (0)::bigint) + COALESCE(f.failed, (0)::bigint))) OVER later, (0)::numeric)) AS videos_left,
        CASE
            WHEN (EXISTS ( SELECT
               FROM public.fleet_instances)) THEN COALESCE(b.usd, (0)::numeric)
            ELSE NULL::numeric
        END AS usd,
    COALESCE(f.failed, (0)::bigint) AS failed
   FROM ((((steps s
     LEFT JOIN committed c USING (starts_at))
     LEFT JOIN failed f USING (starts_at))
     LEFT JOIN billed b USING (starts_at))
     CROSS JOIN remaining)
  WINDOW later AS (ORDER BY s.starts_at DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
  ORDER BY s.starts_at;
ALTER VIEW validation.progress_history OWNER TO validation_owner;
CREATE VIEW validation.retired_shards AS
SELECT
    NULL::text AS shard_key,
    NULL::text AS shard_sha256,
    NULL::bigint AS shard_bytes,
    NULL::integer AS segments,
    NULL::text AS suite,
    NULL::text AS revision,
    NULL::timestamp with time zone AS retired_at;
ALTER VIEW validation.retired_shards OWNER TO validation_owner;
CREATE VIEW validation.shard_videos AS
 SELECT s.shard_key,
    r.video_id,
    q.language,
    q.segment_count,
    r.segments,
    s.committed_at AS validated_at,
    (r.superseded_at IS NOT NULL) AS superseded,
    r.suite,
    r.revision
   FROM ((public.validation_shards s
     JOIN public.validation_results r USING (shard_key))
     LEFT JOIN public.video_queue q USING (video_id))
  WHERE (s.deleted_at IS NULL)
  ORDER BY s.shard_key, r.video_id;
ALTER VIEW validation.shard_videos OWNER TO validation_owner;
CREATE VIEW validation.standing_results AS
 WITH revisions AS MATERIALIZED (
         SELECT validation_shards.suite,
            validation_shards.revision,
            validation_shards.models,
            min(validation_shards.committed_at) AS since
           FROM public.validation_shards
          GROUP BY validation_shards.suite, validation_shards.revision, validation_shards.models
        )
 SELECT r.video_id,
    c.chunk_id,
    c.worker_id,
    c.machine,
    s.shard_key,
    s.committed_at,
    r.suite,
    r.revision,
    r.segments
   FROM (((public.validation_chunks c
     JOIN public.validation_shards s ON ((s.chunk_id = c.chunk_id)))
     JOIN public.validation_results r ON ((r.shard_key = s.shard_key)))
     JOIN revisions own ON (((own.suite = r.suite) AND (own.revision = r.revision))))
  WHERE ((NOT (EXISTS ( SELECT
           FROM (public.validation_results again
             JOIN public.validation_shards elsewhere ON ((elsewhere.shard_key = again.shard_key)))
          WHERE ((again.video_id = r.video_id) AND (again.suite = r.suite) AND (again.revision = r.revision) AND (elsewhere.chunk_id IS NOT NULL) AND (elsewhere.committed_at > s.committed_at))))) AND ((own.models = '{}'::jsonb) OR (EXISTS ( SELECT
           FROM jsonb_object_keys(own.models) asked(asked)
          WHERE (NOT (EXISTS ( SELECT
                   FROM (public.validation_results newer
                     JOIN revisions later ON (((later.suite = newer.suite) AND (later.revision = newer.revision))))
                  WHERE ((newer.video_id = r.video_id) AND (newer.suite = r.suite) AND (newer.superseded_at IS NULL) AND (later.since > own.since) AND (later.models ? asked.asked)))))))));
ALTER VIEW validation.standing_results OWNER TO validation_owner;
CREATE VIEW validation.suite_revisions AS
 SELECT s.suite,
    s.revision,
    s.models,
    count(DISTINCT s.shard_key) FILTER (WHERE (r.superseded_at IS NULL)) AS shards,
    count(*) FILTER (WHERE (r.superseded_at IS NULL)) AS videos,
    COALESCE(sum(r.segments) FILTER (WHERE (r.superseded_at IS NULL)), (0)::bigint) AS segments,
    min(s.committed_at) AS first_committed_at,
    max(s.committed_at) AS last_committed_at
   FROM (public.validation_shards s
     JOIN public.validation_results r USING (shard_key))
  GROUP BY s.suite, s.revision, s.models
  ORDER BY (min(s.committed_at)), s.suite, s.revision;
ALTER VIEW validation.suite_revisions OWNER TO validation_owner;
CREATE VIEW validation.suspect_shards AS
 SELECT d.known_as,
    d.worker_id,
    r.shard_key,
    r.committed_at,
    count(*) AS videos,
    sum(r.segments) AS segments
   FROM ((validation.distrusted_workers d
     CROSS JOIN LATERAL ( SELECT standing_results.video_id,
            standing_results.chunk_id,
            standing_results.worker_id,
            standing_results.machine,
            standing_results.shard_key,
            standing_results.committed_at,
            standing_results.suite,
            standing_results.revision,
            standing_results.segments
           FROM validation.standing_results
          WHERE ((standing_results.worker_id = d.worker_id) AND (NOT (standing_results.machine IS DISTINCT FROM d.machine)))
         OFFSET 0) r)
     JOIN public.video_queue q ON (((q.video_id = r.video_id) AND (q.validation_status = 'validated'::text))))
  WHERE (NOT d.is_excused)
  GROUP BY d.known_as, d.worker_id, r.shard_key, r.committed_at
  ORDER BY d.known_as, r.shard_key;
ALTER VIEW validation.suspect_shards OWNER TO validation_owner;
CREATE VIEW validation.throughput_recent AS
 SELECT date_trunc('minute'::text, closed_at) AS minute,
    count(*) AS chunks,
    sum(videos_validated) AS videos_validated,
    sum(videos_failed) AS videos_failed,
    sum(segments) AS segments,
    sum(shard_bytes) AS shard_bytes
   FROM public.validation_chunks
  WHERE ((state = 'committed'::text) AND (closed_at > (now() - '01:00:00'::interval)))
  GROUP BY (date_trunc('minute'::text, closed_at))
  ORDER BY (date_trunc('minute'::text, closed_at));
ALTER VIEW validation.throughput_recent OWNER TO validation_owner;
CREATE VIEW validation.unjudged_canaries AS
 SELECT n.video_id,
    found.chunk_id,
    found.worker_id,
    found.shard_key,
    found.shard_sha256,
    found.error,
    n.answers,
    ((NOT (found.suite IS DISTINCT FROM n.suite)) AND (NOT (found.models IS DISTINCT FROM n.models))) AS is_comparable,
    n.basis
   FROM (validation.canaries n
     CROSS JOIN LATERAL (( SELECT c.chunk_id,
            c.worker_id,
            s.shard_key,
            s.shard_sha256,
            NULL::text AS error,
            s.suite,
            s.models
           FROM ((public.validation_results r
             JOIN public.validation_shards s ON (((s.shard_key = r.shard_key) AND (s.deleted_at IS NULL))))
             JOIN public.validation_chunks c ON ((c.chunk_id = s.chunk_id)))
          WHERE (r.video_id = n.video_id)
         OFFSET 0)
        UNION ALL
        ( SELECT c.chunk_id,
            c.worker_id,
            NULL::text,
            NULL::text,
            q.validation_error,
            NULL::text,
            NULL::jsonb
           FROM (public.video_queue q
             JOIN public.validation_chunks c ON (((c.chunk_id = q.validation_chunk) AND (c.state = 'committed'::text))))
          WHERE ((q.video_id = n.video_id) AND (q.validation_status = 'validation_failed'::text))
         OFFSET 0)) found)
  WHERE (NOT (EXISTS ( SELECT
           FROM validation.canary_judgements j
          WHERE ((j.video_id = n.video_id) AND (j.chunk_id = found.chunk_id)))))
  ORDER BY found.shard_key, n.video_id;
ALTER VIEW validation.unjudged_canaries OWNER TO validation_owner;
CREATE VIEW validation.video_outcomes AS
 SELECT q.video_id,
    q.language,
    q.segment_count,
    q.validation_status,
    q.validation_segments,
    q.validation_error,
    q.validation_attempts,
    q.validation_crashes,
    q.validated_at,
    c.worker_id,
    c.suite,
    r.shard_key
   FROM (((public.video_queue q
     LEFT JOIN public.validation_chunks c ON ((c.chunk_id = q.validation_chunk)))
     LEFT JOIN public.validation_shards s ON ((s.chunk_id = c.chunk_id)))
     LEFT JOIN public.validation_results r ON (((r.video_id = q.video_id) AND (r.superseded_at IS NULL) AND (r.suite = s.suite) AND (r.revision = s.revision))))
  WHERE (q.status = 'done'::text)
  ORDER BY q.video_id;
ALTER VIEW validation.video_outcomes OWNER TO validation_owner;
CREATE TABLE validation.worker_locks (
    worker_id text NOT NULL
);
ALTER TABLE validation.worker_locks OWNER TO validation_owner;
CREATE VIEW validation.workload AS
 SELECT ( SELECT count(*) AS count
           FROM public.video_queue
          WHERE ((video_queue.status = 'done'::text) AND (video_queue.validation_status = 'pending'::text) AND (video_queue.validation_not_before <= now()))) AS claimable_videos,
    ( SELECT count(*) AS count
           FROM public.validation_chunks
          WHERE (validation_chunks.state = 'open'::text)) AS open_chunks,
    ( SELECT COALESCE(sum(COALESCE((((worker_validators.config_json -> 'budgets'::text) ->> 'flow_runs'::text))::integer, 1)), (0)::bigint) AS "coalesce"
           FROM public.worker_validators
          WHERE ((worker_validators.status = 'online'::text) AND (worker_validators.last_heartbeat_at > (now() - '00:01:00'::interval)))) AS slots_online,
    ( SELECT count(*) AS count
           FROM public.video_queue
          WHERE ((video_queue.status = 'done'::text) AND (video_queue.validation_status = 'pending'::text) AND (video_queue.validation_not_before <= now()) AND (video_queue.validation_crashes = 1))) AS suspects,
    ( SELECT count(*) AS count
           FROM public.video_queue
          WHERE ((video_queue.status = 'done'::text) AND (video_queue.validation_status = 'pending'::text) AND (video_queue.validation_not_before <= now()) AND (video_queue.validation_crashes > 1))) AS lone_suspects;
ALTER VIEW validation.workload OWNER TO validation_owner;
INSERT INTO public.fleet_blacklist VALUES
	('machine', 10, 'lying', 10, '2026-11-29 00:38:49.420331+00', '2058-08-07 02:25:29.420331+00'),
	('machine', 20, 'stuck', 20, '2026-11-29 00:38:49.426145+00', '2058-08-07 02:25:29.426145+00'),
	('machine', 30, 'silent', 30, '2026-11-29 00:38:49.431057+00', '2058-08-07 02:25:29.431057+00'),
	('machine', 40, 'distrusted', 40, '2026-11-29 00:38:49.436809+00', '2058-08-07 02:25:29.436809+00'),
	('machine', 50, 'never_booted', 50, '2026-11-29 00:38:49.443077+00', '2058-08-07 02:25:29.443077+00');
INSERT INTO public.fleet_credit_readings VALUES
	('f', '2026-11-29 00:38:49.445517+00', 100.0, 0.300029033750000000000000);
INSERT INTO public.fleet_instances VALUES
	('vfleet/f-01234567/1', 'f', 1, 'val-1', 'working', 1, 10, 7, 'RTX_4090', 0.5, 0.1, 600, 101, '2026-11-29 00:38:49.364712+00', '2026-11-29 00:38:49.397367+00', NULL, NULL, NULL, NULL, 0, NULL, NULL, '2026-11-29 00:38:49.397367+00', NULL, NULL, NULL, NULL),
	('vfleet/f-01234567/2', 'f', 2, 'val-2', 'destroying', 2, 20, 7, 'RTX_4090', 0.5, 0.1, 600, 102, '2026-11-29 00:38:49.377369+00', '2026-11-29 00:38:49.408243+00', NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, 'lying', NULL, NULL),
	('vfleet/f-01234567/3', 'f', 3, 'val-3', 'destroying', 3, 30, 7, 'RTX_4090', 0.5, 0.1, 600, 103, '2026-11-29 00:38:49.385427+00', '2026-11-29 00:38:49.41739+00', NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, 'silent', NULL, NULL);
INSERT INTO public.fleets VALUES
	('f', 'vfleet/f-01234567/', 3, 9, 90, '{"image": "i"}', '2026-11-29 00:38:49.34031+00', 'f7dd5082-8f72-4a2d-90c8-1999f77de0e0', '2026-11-29 00:48:49.349008+00', '2026-11-29 00:38:49.354537+00', 1, false);
INSERT INTO public.validation_chunks VALUES
	('8b0d5b35-111e-49e0-9e2a-e0d344ea3490', 'ann', 1, '94a3c927-cec5-4cf8-9742-e5f963a5a5fa', 'tiny', 'committed', '2026-11-29 00:38:49.48916+00', '2026-11-29 01:38:49.48916+00', '2026-11-29 00:38:49.521676+00', NULL, 2, 2, 0, 6, 0, 'shards/ann/validation_ann_shard_0001.parquet', '1120f3c0e1514839a7c51951f53ba7101120f3c0e1514839a7c51951f53ba710', 1000, 20, NULL, NULL, NULL, NULL, '2026-11-29 00:38:49.48916+00'),
	('c5043b6c-fbe6-480f-b069-fe1dfdb0ad2e', 'bob', 1, 'aba0a799-6e0b-4f2d-8b64-f65df7692a73', 'tiny', 'committed', '2026-11-29 00:38:49.565069+00', '2026-11-29 01:38:49.565069+00', '2026-11-29 00:38:49.58901+00', NULL, 2, 2, 0, 6, 0, 'shards/bob/validation_bob_shard_0001.parquet', '93d1331ce4884fa7a19ad7436bba894593d1331ce4884fa7a19ad7436bba8945', 1000, 20, NULL, NULL, NULL, NULL, '2026-11-29 00:38:49.565069+00'),
	('d8581549-296c-4b85-a8e9-b2b72761d45d', 'cleo', 1, '984c96cf-2934-4ac5-afbc-1782543a6498', 'tiny', 'committed', '2026-11-29 00:38:49.602915+00', '2026-11-29 01:38:49.602915+00', '2026-11-29 00:38:49.61986+00', NULL, 2, 1, 1, 3, 0, 'shards/cleo/validation_cleo_shard_0001.parquet', '2d7de79787c54d8281979b4e8a4290c52d7de79787c54d8281979b4e8a4290c5', 1000, 10, NULL, NULL, NULL, NULL, '2026-11-29 00:38:49.602915+00'),
	('329537df-1c90-4d31-ab66-0cafdf7a6051', 'cleo', 2, '5c29be40-96c6-43e9-995a-f6fd0903cac7', 'tiny', 'committed', '2026-11-29 00:38:49.629361+00', '2026-11-29 01:38:49.629361+00', '2026-11-29 00:38:49.638904+00', NULL, 2, 2, 0, 6, 0, 'shards/cleo/validation_cleo_shard_0002.parquet', 'ed6fc59209db49cf84ee3496ac85cb95ed6fc59209db49cf84ee3496ac85cb95', 1000, 20, NULL, NULL, NULL, NULL, '2026-11-29 00:38:49.629361+00'),
	('4e097eb0-5ceb-4235-950c-cb4078044fbb', 'cleo', 3, '76be7ab2-2c21-407a-bee2-c59c6b5e6420', 'tiny', 'released', '2026-11-29 00:38:49.648643+00', '2026-11-29 01:38:49.648643+00', '2026-11-29 00:38:49.661433+00', 'drained', 1, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-11-29 00:38:49.648643+00'),
	('c3d3a37f-5b1d-4519-b6ae-b324ab36a17c', 'cleo', 4, '4d264ae9-68ad-4a5e-9b55-26cc9f1cbec8', 'tiny', 'open', '2026-11-29 00:38:49.670148+00', '2026-11-29 01:38:49.670148+00', NULL, NULL, 2, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2026-11-29 00:38:49.670148+00'),
	('8c50fb79-07c6-44e4-b4c9-ee2ea523adca', 'val-1', 1, 'e28f1e91-5879-4cd3-9802-519ed0752231', 'tiny', 'open', '2026-11-29 00:38:49.676224+00', '2026-11-29 01:38:49.676224+00', NULL, NULL, 1, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'vfleet/f-01234567/1', '2026-11-29 00:38:49.676224+00');
INSERT INTO public.validation_results VALUES
	('shards/ann/validation_ann_shard_0001.parquet', 'c0', 'tiny', '65a4c5ec1c01', 3, NULL),
	('shards/ann/validation_ann_shard_0001.parquet', 'v0', 'tiny', '65a4c5ec1c01', 3, NULL),
	('shards/bob/validation_bob_shard_0001.parquet', 'c1', 'tiny', '65a4c5ec1c01', 3, NULL),
	('shards/bob/validation_bob_shard_0001.parquet', 'v1', 'tiny', '65a4c5ec1c01', 3, NULL),
	('shards/cleo/validation_cleo_shard_0001.parquet', 'v9', 'tiny', '65a4c5ec1c01', 3, NULL),
	('shards/cleo/validation_cleo_shard_0002.parquet', 'v2', 'tiny', '65a4c5ec1c01', 3, NULL),
	('shards/cleo/validation_cleo_shard_0002.parquet', 'v4', 'tiny', '65a4c5ec1c01', 3, NULL);
INSERT INTO public.validation_shards VALUES
	('shards/ann/validation_ann_shard_0001.parquet', '1120f3c0e1514839a7c51951f53ba7101120f3c0e1514839a7c51951f53ba710', 1000, 2, 6, 'tiny', '{"ear": "1"}', DEFAULT, '8b0d5b35-111e-49e0-9e2a-e0d344ea3490', '2026-11-29 00:38:49.521676+00', NULL),
	('shards/bob/validation_bob_shard_0001.parquet', '93d1331ce4884fa7a19ad7436bba894593d1331ce4884fa7a19ad7436bba8945', 1000, 2, 6, 'tiny', '{"ear": "1"}', DEFAULT, 'c5043b6c-fbe6-480f-b069-fe1dfdb0ad2e', '2026-11-29 00:38:49.58901+00', NULL),
	('shards/cleo/validation_cleo_shard_0001.parquet', '2d7de79787c54d8281979b4e8a4290c52d7de79787c54d8281979b4e8a4290c5', 1000, 1, 3, 'tiny', '{"ear": "1"}', DEFAULT, 'd8581549-296c-4b85-a8e9-b2b72761d45d', '2026-11-29 00:38:49.61986+00', NULL),
	('shards/cleo/validation_cleo_shard_0002.parquet', 'ed6fc59209db49cf84ee3496ac85cb95ed6fc59209db49cf84ee3496ac85cb95', 1000, 2, 6, 'tiny', '{"ear": "1"}', DEFAULT, '329537df-1c90-4d31-ab66-0cafdf7a6051', '2026-11-29 00:38:49.638904+00', NULL);
INSERT INTO public.video_queue VALUES
	('c0', 'done', 'hi', 1, 'ann', '2026-11-29 00:38:49.48916+00', 'validated', '8b0d5b35-111e-49e0-9e2a-e0d344ea3490', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.521676+00', NULL, 0),
	('v0', 'done', 'hi', 3, 'ann', '2026-11-29 00:38:49.48916+00', 'validated', '8b0d5b35-111e-49e0-9e2a-e0d344ea3490', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.521676+00', NULL, 0),
	('c1', 'done', 'hi', 1, 'bob', '2026-11-29 00:38:49.565069+00', 'validated', 'c5043b6c-fbe6-480f-b069-fe1dfdb0ad2e', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.58901+00', NULL, 0),
	('v1', 'done', 'ta', 3, 'bob', '2026-11-29 00:38:49.565069+00', 'validated', 'c5043b6c-fbe6-480f-b069-fe1dfdb0ad2e', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.58901+00', NULL, 0),
	('v6', 'done', 'hi', 3, NULL, NULL, 'pending', NULL, 0, 0, '1970-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 0),
	('v8', 'done', 'hi', 3, NULL, NULL, 'pending', NULL, 0, 0, '1970-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 0),
	('v9', 'done', 'ta', 3, 'cleo', '2026-11-29 00:38:49.602915+00', 'validated', 'd8581549-296c-4b85-a8e9-b2b72761d45d', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.61986+00', NULL, 0),
	('v7', 'done', 'ta', 3, 'cleo', '2026-11-29 00:38:49.602915+00', 'validation_failed', 'd8581549-296c-4b85-a8e9-b2b72761d45d', 1, 0, '1970-01-01 00:00:00+00', 'corrupt tar', NULL, NULL, NULL, 0),
	('v2', 'done', 'hi', 3, 'cleo', '2026-11-29 00:38:49.629361+00', 'validated', '329537df-1c90-4d31-ab66-0cafdf7a6051', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.638904+00', NULL, 0),
	('v4', 'done', 'hi', 3, 'cleo', '2026-11-29 00:38:49.629361+00', 'validated', '329537df-1c90-4d31-ab66-0cafdf7a6051', 1, 0, '1970-01-01 00:00:00+00', NULL, 3, '2026-11-29 00:38:49.638904+00', NULL, 0),
	('v10', 'done', 'hi', 3, NULL, '2026-11-29 00:38:49.648643+00', 'pending', NULL, 0, 0, '1970-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 0),
	('v3', 'done', 'ta', 3, 'cleo', '2026-11-29 00:38:49.670148+00', 'validating', 'c3d3a37f-5b1d-4519-b6ae-b324ab36a17c', 1, 0, '1970-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 0),
	('v5', 'done', 'ta', 3, 'cleo', '2026-11-29 00:38:49.670148+00', 'validating', 'c3d3a37f-5b1d-4519-b6ae-b324ab36a17c', 1, 0, '1970-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 0),
	('v11', 'done', 'ta', 3, 'val-1', '2026-11-29 00:38:49.676224+00', 'validating', '8c50fb79-07c6-44e4-b4c9-ee2ea523adca', 1, 0, '1970-01-01 00:00:00+00', NULL, NULL, NULL, NULL, 0);
INSERT INTO public.worker_validators VALUES
	('ann', 'online', NULL, NULL, NULL, 2, 0, 6, 0, 1, 1, 0.001, '2026-11-29 00:38:49.30138+00', '2026-11-29 00:38:49.48916+00', '2026-11-29 00:38:49.521676+00', '{"budgets": {"flow_runs": 2}, "instance": "ann-1"}', NULL, '{}', NULL, '2026-11-29 00:38:49.30138+00'),
	('bob', 'online', NULL, NULL, NULL, 2, 0, 6, 0, 1, 1, 0.001, '2026-11-29 00:38:49.319609+00', '2026-11-29 00:38:49.565069+00', '2026-11-29 00:38:49.58901+00', '{"budgets": {"flow_runs": 2}, "instance": "bob-1"}', NULL, '{}', NULL, '2026-11-29 00:38:49.319609+00'),
	('cleo', 'online', NULL, NULL, NULL, 3, 1, 9, 0, 2, 2, 0.002, '2026-11-29 00:38:49.334641+00', '2026-11-29 00:38:49.670148+00', '2026-11-29 00:38:49.638904+00', '{"budgets": {"flow_runs": 2}, "instance": "cleo-1"}', NULL, '{4d264ae9-68ad-4a5e-9b55-26cc9f1cbec8}', NULL, '2026-11-29 00:38:49.334641+00'),
	('val-1', 'online', NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, '2026-11-29 00:38:49.457354+00', '2026-11-29 00:38:49.676224+00', NULL, '{"instance": "val-1-1"}', NULL, '{e28f1e91-5879-4cd3-9802-519ed0752231}', NULL, '2026-11-29 00:38:49.457354+00');
INSERT INTO validation.alembic_version VALUES
	('0016');
INSERT INTO validation.box_keys VALUES
	('val-1', 'vfleet/f-01234567/1', '\x31a665a3275ac27442af80eb837fea332d03521a4304b303e82e22c759746adf', '2026-11-29 00:38:49.453133+00');
INSERT INTO validation.canaries VALUES
	('c0', 'tiny', '{"ear": "1"}', '[{"signals": {"ear_peak": 0.5}, "verdict": "accept"}]', '2026-11-29 00:38:49.288626+00', '{"rules_version": "1"}'),
	('c1', 'tiny', '{"ear": "1"}', '[{"signals": {"ear_peak": 0.5}, "verdict": "accept"}]', '2026-11-29 00:38:49.288626+00', '{"rules_version": "1"}');
INSERT INTO validation.canary_judgements VALUES
	('c1', 'c5043b6c-fbe6-480f-b069-fe1dfdb0ad2e', 'moot', 'it failed: x', '2026-11-29 00:38:49.703286+00', NULL),
	('c0', '8b0d5b35-111e-49e0-9e2a-e0d344ea3490', 'wrong', 'segment 0: no', '2026-11-29 00:38:49.694463+00', '2026-11-29 00:38:49.712255+00');
INSERT INTO validation.lent_credentials VALUES
	('val-1', 'results', 'id', 'secret', 'token', '2026-11-29 00:38:49.46748+00', '2030-01-29 10:25:29.46748+00'),
	('val-1', 'source', 'id', 'secret', 'token', '2026-11-29 00:38:49.470484+00', '2030-01-29 10:25:29.470484+00');
INSERT INTO validation.worker_locks VALUES
	('ann'),
	('bob'),
	('cleo'),
	('val-1');
ALTER TABLE ONLY public.fleet_blacklist
    ADD CONSTRAINT fleet_blacklist_pkey PRIMARY KEY (kind, vendor_id);
ALTER TABLE ONLY public.fleet_credit_readings
    ADD CONSTRAINT fleet_credit_readings_pkey PRIMARY KEY (fleet, read_at);
ALTER TABLE ONLY public.fleet_instances
    ADD CONSTRAINT fleet_instances_instance_id_key UNIQUE (instance_id);
ALTER TABLE ONLY public.fleet_instances
    ADD CONSTRAINT fleet_instances_pkey PRIMARY KEY (label);
ALTER TABLE ONLY public.fleets
    ADD CONSTRAINT fleets_label_prefix_key UNIQUE (label_prefix);
ALTER TABLE ONLY public.fleets
    ADD CONSTRAINT fleets_pkey PRIMARY KEY (fleet);
ALTER TABLE ONLY public.validation_chunks
    ADD CONSTRAINT validation_chunks_pkey PRIMARY KEY (chunk_id);
ALTER TABLE ONLY public.validation_chunks
    ADD CONSTRAINT validation_chunks_shard_key_key UNIQUE (shard_key);
ALTER TABLE ONLY public.validation_chunks
    ADD CONSTRAINT validation_chunks_worker_id_shard_number_key UNIQUE (worker_id, shard_number);
ALTER TABLE ONLY public.validation_results
    ADD CONSTRAINT validation_results_pkey PRIMARY KEY (shard_key, video_id);
ALTER TABLE ONLY public.validation_shards
    ADD CONSTRAINT validation_shards_chunk_id_key UNIQUE (chunk_id);
ALTER TABLE ONLY public.validation_shards
    ADD CONSTRAINT validation_shards_pkey PRIMARY KEY (shard_key);
ALTER TABLE ONLY public.video_queue
    ADD CONSTRAINT video_queue_pkey PRIMARY KEY (video_id);
ALTER TABLE ONLY public.worker_validators
    ADD CONSTRAINT worker_validators_pkey PRIMARY KEY (worker_id);
ALTER TABLE ONLY validation.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY validation.box_keys
    ADD CONSTRAINT box_keys_pkey PRIMARY KEY (worker_id);
ALTER TABLE ONLY validation.canaries
    ADD CONSTRAINT canaries_pkey PRIMARY KEY (video_id);
ALTER TABLE ONLY validation.canary_judgements
    ADD CONSTRAINT canary_judgements_pkey PRIMARY KEY (video_id, chunk_id);
ALTER TABLE ONLY validation.lent_credentials
    ADD CONSTRAINT lent_credentials_pkey PRIMARY KEY (worker_id, store);
ALTER TABLE ONLY validation.worker_locks
    ADD CONSTRAINT worker_locks_pkey PRIMARY KEY (worker_id);
CREATE UNIQUE INDEX fleet_instances_one_a_slot ON public.fleet_instances USING btree (fleet, slot) WHERE (state <> 'gone'::text);
CREATE UNIQUE INDEX fleet_instances_one_an_offer ON public.fleet_instances USING btree (offer_id) WHERE (state <> 'gone'::text);
CREATE INDEX fleet_instances_recent ON public.fleet_instances USING btree (fleet, closed_at);
CREATE INDEX validation_chunks_committed_at ON public.validation_chunks USING btree (closed_at) WHERE (state = 'committed'::text);
CREATE INDEX validation_chunks_open ON public.validation_chunks USING btree (worker_id, lease_expires_at) WHERE (state = 'open'::text);
CREATE UNIQUE INDEX validation_results_current ON public.validation_results USING btree (video_id, suite, revision) WHERE (superseded_at IS NULL);
CREATE INDEX validation_results_of_video ON public.validation_results USING btree (video_id);
CREATE INDEX video_queue_claimable ON public.video_queue USING btree (hashtext(video_id)) WHERE ((status = 'done'::text) AND (validation_status = 'pending'::text) AND (validation_crashes = 0));
CREATE INDEX video_queue_failed ON public.video_queue USING btree (validation_chunk) WHERE (validation_status = 'validation_failed'::text);
CREATE INDEX video_queue_held ON public.video_queue USING btree (validation_chunk) WHERE (validation_status = 'validating'::text);
CREATE INDEX video_queue_suspects ON public.video_queue USING btree (validation_crashes, hashtext(video_id)) WHERE ((status = 'done'::text) AND (validation_status = 'pending'::text) AND (validation_crashes > 0));
CREATE INDEX canary_judgements_unpardoned ON validation.canary_judgements USING btree (chunk_id) WHERE ((outcome = 'wrong'::text) AND (pardoned_at IS NULL));
CREATE OR REPLACE VIEW validation.retired_shards AS
 SELECT s.shard_key,
    s.shard_sha256,
    s.shard_bytes,
    s.segments,
    s.suite,
    s.revision,
    max(r.superseded_at) AS retired_at
   FROM (public.validation_shards s
     JOIN public.validation_results r USING (shard_key))
  WHERE (s.deleted_at IS NULL)
  GROUP BY s.shard_key
 HAVING bool_and((r.superseded_at IS NOT NULL))
  ORDER BY s.shard_key;
ALTER TABLE ONLY public.fleet_credit_readings
    ADD CONSTRAINT fleet_credit_readings_fleet_fkey FOREIGN KEY (fleet) REFERENCES public.fleets(fleet);
ALTER TABLE ONLY public.fleet_instances
    ADD CONSTRAINT fleet_instances_fleet_fkey FOREIGN KEY (fleet) REFERENCES public.fleets(fleet);
ALTER TABLE ONLY public.validation_chunks
    ADD CONSTRAINT validation_chunks_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES public.worker_validators(worker_id);
ALTER TABLE ONLY public.validation_results
    ADD CONSTRAINT validation_results_shard_key_fkey FOREIGN KEY (shard_key) REFERENCES public.validation_shards(shard_key);
ALTER TABLE ONLY public.validation_shards
    ADD CONSTRAINT validation_shards_chunk_id_fkey FOREIGN KEY (chunk_id) REFERENCES public.validation_chunks(chunk_id);
ALTER TABLE ONLY validation.box_keys
    ADD CONSTRAINT box_keys_label_fkey FOREIGN KEY (label) REFERENCES public.fleet_instances(label);
ALTER TABLE ONLY validation.canary_judgements
    ADD CONSTRAINT canary_judgements_chunk_id_fkey FOREIGN KEY (chunk_id) REFERENCES public.validation_chunks(chunk_id);
ALTER TABLE ONLY validation.canary_judgements
    ADD CONSTRAINT canary_judgements_video_id_fkey FOREIGN KEY (video_id) REFERENCES validation.canaries(video_id);
ALTER TABLE ONLY validation.lent_credentials
    ADD CONSTRAINT lent_credentials_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES validation.box_keys(worker_id) ON DELETE CASCADE;
ALTER TABLE public.fleet_blacklist ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.fleet_credit_readings ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.fleet_instances ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.fleets ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.validation_chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.validation_results ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.validation_shards ENABLE ROW LEVEL SECURITY;
CREATE POLICY validation_works ON public.video_queue TO validation_owner USING (true) WITH CHECK (true);
ALTER TABLE public.worker_validators ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.box_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.canaries ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.canary_judgements ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.lent_credentials ENABLE ROW LEVEL SECURITY;
ALTER TABLE validation.worker_locks ENABLE ROW LEVEL SECURITY;
GRANT USAGE ON SCHEMA public TO validation_owner;
GRANT ALL ON SCHEMA validation TO validation_owner;
GRANT USAGE ON SCHEMA validation TO validation_worker;
GRANT USAGE ON SCHEMA validation TO validation_control;
GRANT USAGE ON SCHEMA validation TO validation_reader;
REVOKE ALL ON FUNCTION pg_catalog.lo_close(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_creat(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_create(oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_from_bytea(oid, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_get(oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_get(oid, bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_lseek(integer, integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_lseek64(integer, bigint, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_open(oid, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_put(oid, bigint, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_tell(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_tell64(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_truncate(integer, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_truncate64(integer, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lo_unlink(oid) FROM PUBLIC;
REVOKE ALL ON FUNCTION pg_catalog.lowrite(integer, bytea) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.admit_box(p_worker text, p_label text, p_key_sha256 bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.admit_box(p_worker text, p_label text, p_key_sha256 bytea) TO validation_control;
REVOKE ALL ON FUNCTION validation.audit() FROM PUBLIC;
GRANT ALL ON FUNCTION validation.audit() TO validation_control;
GRANT ALL ON FUNCTION validation.audit() TO validation_reader;
REVOKE ALL ON FUNCTION validation.borrow_credential(p_worker text, p_store text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.borrow_credential(p_worker text, p_store text) TO validation_worker;
REVOKE ALL ON FUNCTION validation.claim_chunk(p_chunk uuid, p_worker text, p_flow_run uuid, p_size integer, p_languages text[], p_lease_s integer, p_suite text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.claim_chunk(p_chunk uuid, p_worker text, p_flow_run uuid, p_size integer, p_languages text[], p_lease_s integer, p_suite text) TO validation_worker;
REVOKE ALL ON FUNCTION validation.close_without_shard(p_old public.validation_chunks, p_state text, p_reason text) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.commit_chunk(p_chunk uuid, p_shard jsonb, p_validated jsonb, p_failed jsonb, p_max_attempts integer, p_backoff_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.commit_chunk(p_chunk uuid, p_shard jsonb, p_validated jsonb, p_failed jsonb, p_max_attempts integer, p_backoff_s integer) TO validation_worker;
REVOKE ALL ON FUNCTION validation.compact_shards(p_shard jsonb, p_sources text[], p_videos jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.compact_shards(p_shard jsonb, p_sources text[], p_videos jsonb) TO validation_control;
REVOKE ALL ON FUNCTION validation.drain_worker(p_worker text, p_instance text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.drain_worker(p_worker text, p_instance text) TO validation_worker;
REVOKE ALL ON FUNCTION validation.draw_videos(p_languages text[], p_count integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.draw_videos(p_languages text[], p_count integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.expire_chunk(p_old public.validation_chunks, p_reason text, p_max_crashes integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.flag_silent_workers(p_silent_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.flag_silent_workers(p_silent_s integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_ban(p_machine bigint, p_host bigint, p_reason text, p_ttl_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_ban(p_machine bigint, p_host bigint, p_reason text, p_ttl_s integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_dismiss(p_fleet text, p_abandon boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_dismiss(p_fleet text, p_abandon boolean) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_end_turn(p_fleet text, p_holder uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_end_turn(p_fleet text, p_holder uuid) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_may_search(p_fleet text, p_holder uuid) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_may_search(p_fleet text, p_holder uuid) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_move(p_label text, p_to text, p_instance_id bigint, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_move(p_label text, p_to text, p_instance_id bigint, p_reason text) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_now() FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_now() TO validation_control;
GRANT ALL ON FUNCTION validation.fleet_now() TO validation_reader;
REVOKE ALL ON FUNCTION validation.fleet_observe(p_fleet text, p_seen jsonb, p_complete boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_observe(p_fleet text, p_seen jsonb, p_complete boolean) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_pardon(p_kind text, p_vendor_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_pardon(p_kind text, p_vendor_id bigint) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_record_credit(p_fleet text, p_credit_usd numeric) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_record_credit(p_fleet text, p_credit_usd numeric) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_request(p_fleet text, p_holder uuid, p_label text, p_slot integer, p_offer jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_request(p_fleet text, p_holder uuid, p_label text, p_slot integer, p_offer jsonb) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_spent(p_fleet text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_spent(p_fleet text) TO validation_control;
GRANT ALL ON FUNCTION validation.fleet_spent(p_fleet text) TO validation_reader;
REVOKE ALL ON FUNCTION validation.fleet_take_turn(p_fleet text, p_holder uuid, p_lease_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_take_turn(p_fleet text, p_holder uuid, p_lease_s integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_transitions() FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_transitions() TO validation_control;
REVOKE ALL ON FUNCTION validation.fleet_want(p_fleet text, p_machines integer, p_max_usd_per_hour numeric, p_max_usd numeric, p_order jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.fleet_want(p_fleet text, p_machines integer, p_max_usd_per_hour numeric, p_max_usd numeric, p_order jsonb) TO validation_control;
REVOKE ALL ON FUNCTION validation.forget_shards(p_older_than_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.forget_shards(p_older_than_s integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.has_outlived(p_chunk public.validation_chunks) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.heartbeat_worker(p_worker text, p_current_video text, p_last_error text, p_instance text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.heartbeat_worker(p_worker text, p_current_video text, p_last_error text, p_instance text) TO validation_worker;
REVOKE ALL ON FUNCTION validation.judge_canary(p_video text, p_chunk uuid, p_outcome text, p_finding text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.judge_canary(p_video text, p_chunk uuid, p_outcome text, p_finding text) TO validation_control;
REVOKE ALL ON FUNCTION validation.lend_credential(p_worker text, p_store text, p_access_key_id text, p_secret_access_key text, p_session_token text, p_lasts_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.lend_credential(p_worker text, p_store text, p_access_key_id text, p_secret_access_key text, p_session_token text, p_lasts_s integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.lock_worker(p_worker text) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.mirror_worker(p_worker text, p_videos integer, p_failed integer, p_segments integer, p_shards integer, p_bytes bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.pardon_worker(p_worker text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.pardon_worker(p_worker text) TO validation_control;
REVOKE ALL ON FUNCTION validation.pick_fresh(p_size integer, p_from bigint, p_below bigint, p_languages text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.pick_suspects(p_size integer, p_languages text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.plant_canaries(p_suite text, p_models jsonb, p_basis jsonb, p_canaries jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.plant_canaries(p_suite text, p_models jsonb, p_basis jsonb, p_canaries jsonb) TO validation_control;
REVOKE ALL ON FUNCTION validation.raise_claim_lost(p_chunk uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.record_shard(p_shard jsonb, p_chunk uuid, p_videos jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.register_worker(p_worker text, p_gpu_type text, p_gpu_vram_gb real, p_config jsonb, p_prefect_worker text, p_succeeds text, p_max_crashes integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.register_worker(p_worker text, p_gpu_type text, p_gpu_vram_gb real, p_config jsonb, p_prefect_worker text, p_succeeds text, p_max_crashes integer) TO validation_worker;
REVOKE ALL ON FUNCTION validation.release_chunk(p_chunk uuid, p_reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.release_chunk(p_chunk uuid, p_reason text) TO validation_worker;
REVOKE ALL ON FUNCTION validation.release_stranded_videos(p_older_than_s integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.release_stranded_videos(p_older_than_s integer) TO validation_control;
REVOKE ALL ON FUNCTION validation.renew_chunk(p_chunk uuid, p_worker text, p_lease_s integer, p_progress jsonb) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.renew_chunk(p_chunk uuid, p_worker text, p_lease_s integer, p_progress jsonb) TO validation_worker;
REVOKE ALL ON FUNCTION validation.requeue_videos(p_video_ids text[], p_status text, p_languages text[], p_worker text, p_suite text, p_revision text, p_lacking jsonb, p_dry_run boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.requeue_videos(p_video_ids text[], p_status text, p_languages text[], p_worker text, p_suite text, p_revision text, p_lacking jsonb, p_dry_run boolean) TO validation_control;
REVOKE ALL ON FUNCTION validation.require_box(p_worker text) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.require_instance(p_worker text, p_instance text) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.require_room(p_worker text) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.require_segments(p_segments bigint, p_videos integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.require_trust(p_worker text) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.retire_worker(p_worker text, p_instance text) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.retire_worker(p_worker text, p_instance text) TO validation_worker;
GRANT ALL ON FUNCTION validation.retire_worker(p_worker text, p_instance text) TO validation_control;
REVOKE ALL ON FUNCTION validation.return_crashed_videos(p_chunk uuid, p_is_crash boolean, p_max_crashes integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.return_videos(p_chunk uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.schema_revision() FROM PUBLIC;
GRANT ALL ON FUNCTION validation.schema_revision() TO validation_worker;
GRANT ALL ON FUNCTION validation.schema_revision() TO validation_control;
REVOKE ALL ON FUNCTION validation.shard_key_of(p_chunk public.validation_chunks) FROM PUBLIC;
REVOKE ALL ON FUNCTION validation.sweep_stale_claims(p_ended_runs uuid[], p_ended_ago_s double precision[], p_max_crashes integer) FROM PUBLIC;
GRANT ALL ON FUNCTION validation.sweep_stale_claims(p_ended_runs uuid[], p_ended_ago_s double precision[], p_max_crashes integer) TO validation_control;
GRANT SELECT ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(claimed_by) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(claimed_at) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_status) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_chunk) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_attempts) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_crashes) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_not_before) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_error) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_segments) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validated_at) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_models) ON TABLE public.video_queue TO validation_owner;
GRANT UPDATE(validation_losses) ON TABLE public.video_queue TO validation_owner;
GRANT SELECT ON TABLE validation.altered_logins TO validation_control;
GRANT SELECT ON TABLE validation.altered_logins TO validation_reader;
GRANT SELECT ON TABLE validation.box_loans TO validation_control;
GRANT SELECT ON TABLE validation.box_loans TO validation_reader;
GRANT SELECT ON TABLE validation.canary_results TO validation_control;
GRANT SELECT ON TABLE validation.canary_results TO validation_reader;
GRANT SELECT ON TABLE validation.chunk_tallies TO validation_control;
GRANT SELECT ON TABLE validation.chunk_tallies TO validation_reader;
GRANT SELECT ON TABLE validation.closing_chunks TO validation_control;
GRANT SELECT ON TABLE validation.closing_chunks TO validation_reader;
GRANT SELECT ON TABLE validation.committed_shards TO validation_control;
GRANT SELECT ON TABLE validation.committed_shards TO validation_reader;
GRANT SELECT ON TABLE validation.cost_so_far TO validation_control;
GRANT SELECT ON TABLE validation.cost_so_far TO validation_reader;
GRANT SELECT ON TABLE validation.distrusted_workers TO validation_control;
GRANT SELECT ON TABLE validation.distrusted_workers TO validation_reader;
GRANT SELECT ON TABLE validation.eta TO validation_control;
GRANT SELECT ON TABLE validation.eta TO validation_reader;
GRANT SELECT ON TABLE validation.fleet_bans TO validation_control;
GRANT SELECT ON TABLE validation.fleet_bans TO validation_reader;
GRANT SELECT ON TABLE validation.fleet_budget TO validation_control;
GRANT SELECT ON TABLE validation.fleet_budget TO validation_reader;
GRANT SELECT ON TABLE validation.fleet_machines TO validation_control;
GRANT SELECT ON TABLE validation.fleet_machines TO validation_reader;
GRANT SELECT ON TABLE validation.queue_progress TO validation_control;
GRANT SELECT ON TABLE validation.queue_progress TO validation_reader;
GRANT SELECT ON TABLE validation.worker_liveness TO validation_control;
GRANT SELECT ON TABLE validation.worker_liveness TO validation_reader;
GRANT SELECT ON TABLE validation.fleet_overview TO validation_control;
GRANT SELECT ON TABLE validation.fleet_overview TO validation_reader;
GRANT SELECT ON TABLE validation.fleet_spend_check TO validation_control;
GRANT SELECT ON TABLE validation.fleet_spend_check TO validation_reader;
GRANT SELECT ON TABLE validation.open_chunks TO validation_control;
GRANT SELECT ON TABLE validation.open_chunks TO validation_reader;
GRANT SELECT ON TABLE validation.progress_history TO validation_control;
GRANT SELECT ON TABLE validation.progress_history TO validation_reader;
GRANT SELECT ON TABLE validation.retired_shards TO validation_control;
GRANT SELECT ON TABLE validation.retired_shards TO validation_reader;
GRANT SELECT ON TABLE validation.shard_videos TO validation_control;
GRANT SELECT ON TABLE validation.shard_videos TO validation_reader;
GRANT SELECT ON TABLE validation.standing_results TO validation_control;
GRANT SELECT ON TABLE validation.standing_results TO validation_reader;
GRANT SELECT ON TABLE validation.suite_revisions TO validation_control;
GRANT SELECT ON TABLE validation.suite_revisions TO validation_reader;
GRANT SELECT ON TABLE validation.suspect_shards TO validation_control;
GRANT SELECT ON TABLE validation.suspect_shards TO validation_reader;
GRANT SELECT ON TABLE validation.throughput_recent TO validation_control;
GRANT SELECT ON TABLE validation.throughput_recent TO validation_reader;
GRANT SELECT ON TABLE validation.unjudged_canaries TO validation_control;
GRANT SELECT ON TABLE validation.unjudged_canaries TO validation_reader;
GRANT SELECT ON TABLE validation.video_outcomes TO validation_control;
GRANT SELECT ON TABLE validation.video_outcomes TO validation_reader;
GRANT SELECT ON TABLE validation.workload TO validation_control;
GRANT SELECT ON TABLE validation.workload TO validation_reader;

-- Give tables, columns and values the names of docs/glossary.md, and drop the functions and views that have another
-- name or signature from here on: what replaces them is created after every migration. No row is lost or rewritten but
-- the few of the fleet's reasons and of the canaries' outcomes. Boxes of release 0.1 cannot work with it: drain them
-- first.
DROP VIEW IF EXISTS
    validation.altered_logins, validation.box_loans, validation.canary_results, validation.chunk_tallies,
    validation.closing_chunks, validation.committed_shards, validation.cost_so_far, validation.distrusted_workers,
    validation.eta, validation.fleet_bans, validation.fleet_budget, validation.fleet_machines,
    validation.fleet_overview, validation.fleet_spend_check, validation.open_chunks, validation.progress_history,
    validation.queue_progress, validation.retired_shards, validation.shard_videos, validation.standing_results,
    validation.suite_revisions, validation.suspect_shards, validation.throughput_recent, validation.unjudged_canaries,
    validation.video_outcomes, validation.worker_liveness, validation.workload;

DROP FUNCTION IF EXISTS
    validation.admit_box(text, text, bytea),
    validation.audit(),
    validation.borrow_credential(text, text),
    validation.draw_videos(text[], integer),
    validation.flag_silent_workers(integer),
    validation.fleet_dismiss(text, boolean),
    validation.fleet_end_turn(text, uuid),
    validation.fleet_may_search(text, uuid),
    validation.fleet_move(text, text, bigint, text),
    validation.fleet_observe(text, jsonb, boolean),
    validation.fleet_pardon(text, bigint),
    validation.fleet_spent(text),
    validation.fleet_take_turn(text, uuid, integer),
    validation.fleet_want(text, integer, numeric, numeric, jsonb),
    validation.forget_shards(integer),
    validation.has_outlived(validation_chunks),
    validation.judge_canary(text, uuid, text, text),
    validation.lend_credential(text, text, text, text, text, integer),
    validation.mirror_worker(text, integer, integer, integer, integer, bigint),
    validation.pardon_worker(text),
    validation.pick_fresh(integer, bigint, bigint, text[]),
    validation.pick_suspects(integer, text[]),
    validation.plant_canaries(text, jsonb, jsonb, jsonb),
    validation.register_worker(text, text, real, jsonb, text, text, integer),
    validation.release_stranded_videos(integer),
    validation.require_box(text),
    validation.require_instance(text, text),
    validation.require_room(text),
    validation.require_segments(bigint, integer),
    validation.require_trust(text);

ALTER TABLE IF EXISTS validation.lent_credentials  RENAME TO issued_credentials;
ALTER TABLE IF EXISTS validation.canary_judgements RENAME TO canary_evaluations;
ALTER INDEX IF EXISTS validation.canary_judgements_unpardoned RENAME TO canary_evaluations_uncleared;

DO $$
DECLARE
    v_old record;
BEGIN
    FOR v_old IN
        SELECT renamed.* FROM (VALUES
            ('validation.issued_credentials', 'lent_at',       'issued_at'),
            ('validation.canaries',           'planted_at',    'inserted_at'),
            ('validation.canary_evaluations', 'judged_at',     'evaluated_at'),
            ('validation.canary_evaluations', 'pardoned_at',   'cleared_at'),
            ('public.validation_chunks',      'machine',       'instance_label'),
            ('public.fleets',                 'turn_holder',   'lock_holder'),
            ('public.fleets',                 'turn_ends_at',  'lock_expires_at'),
            ('public.fleet_instances',        'boot_within_s', 'boot_timeout_s')
        ) renamed (in_table, old_name, new_name)
        JOIN pg_attribute a ON a.attrelid = renamed.in_table::regclass AND a.attname = renamed.old_name
    LOOP
        EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', v_old.in_table, v_old.old_name, v_old.new_name);
    END LOOP;
END
$$;

ALTER TABLE validation.canary_evaluations
    DROP CONSTRAINT IF EXISTS canary_judgements_outcome_is_known,
    DROP CONSTRAINT IF EXISTS canary_judgements_say_why,
    DROP CONSTRAINT IF EXISTS canary_judgements_pardon_the_wrong,
    DROP CONSTRAINT IF EXISTS canary_evaluations_outcome_is_known,
    DROP CONSTRAINT IF EXISTS canary_evaluations_finding_unless_right,
    DROP CONSTRAINT IF EXISTS canary_evaluations_cleared_only_if_wrong;
UPDATE validation.canary_evaluations SET outcome = 'inconclusive' WHERE outcome = 'moot';
ALTER TABLE validation.canary_evaluations
    ADD CONSTRAINT canary_evaluations_outcome_is_known CHECK (outcome IN (
        'right',
        'wrong',         -- quarantines the box until clear_quarantine sets cleared_at
        'inconclusive'   -- the canary failed, or other models answered: nothing to compare
    )),
    ADD CONSTRAINT canary_evaluations_finding_unless_right CHECK ((outcome = 'right') = (finding IS NULL)),
    ADD CONSTRAINT canary_evaluations_cleared_only_if_wrong CHECK (cleared_at IS NULL OR outcome = 'wrong');

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_constraint WHERE conname = 'fleets_turn_has_an_end') THEN
        ALTER TABLE public.fleets RENAME CONSTRAINT fleets_turn_has_an_end TO fleets_lock_expires;
    END IF;
END
$$;

UPDATE fleet_blacklist b SET reason = renamed.new_name
FROM (VALUES ('lying', 'gpu_mismatch'), ('stuck', 'no_progress'), ('silent', 'heartbeat_timeout'),
             ('distrusted', 'quarantined')) renamed (old_name, new_name)
WHERE b.reason = renamed.old_name;
UPDATE fleet_instances i SET reason = renamed.new_name
FROM (VALUES ('lying', 'gpu_mismatch'), ('stuck', 'no_progress'), ('silent', 'heartbeat_timeout'),
             ('distrusted', 'quarantined')) renamed (old_name, new_name)
WHERE i.reason = renamed.old_name;

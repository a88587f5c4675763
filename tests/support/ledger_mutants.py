"""One-line bugs in the ledger's SQL that its tests must catch: `make mutants` (`mutants_run.py`) proves it."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

FUNCTIONS = Path(__file__).resolve().parents[2] / "sql" / "functions"


@dataclass(frozen=True)
class Mutant:
    function: str
    line: str
    replacement: str


MUTANTS = {
    "no-row-lock": Mutant("pick_pending", "        FOR NO KEY UPDATE SKIP LOCKED\n", ""),
    "wait-instead-of-skip": Mutant("pick_pending", "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),
    "commit-without-token": Mutant(
        "commit_chunk", "WHERE c.chunk_id = p_chunk AND c.state = 'open'\n", "WHERE c.chunk_id = p_chunk\n"
    ),
    "commit-of-foreign-videos": Mutant(
        "commit_chunk",
        "IF v_validated <> jsonb_array_length(p_validated) OR v_failed <> jsonb_array_length(p_failed) THEN",
        "IF false THEN",
    ),
    "commit-again-with-another-shard": Mutant(
        "commit_chunk", "AND c.shard_sha256 IS NOT DISTINCT FROM p_shard ->> 'sha256') THEN", ") THEN"
    ),
    "verdicts-are-mixed-up": Mutant("commit_chunk", "'verdicts' ->> 'review'", "'verdicts' ->> 'reject'"),
    "sweep-without-deadline": Mutant("sweep_stale_claims", "(c.lease_expires_at < now()\n", "(true\n"),
    "sweep-waits-for-locked-chunks": Mutant("sweep_stale_claims", "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),
    "stale-workers-never-become-offline": Mutant(
        "mark_stale_workers", "SET status = 'offline'", "SET status = 'stale'"
    ),
    "renew-without-token": Mutant(
        "renew_chunk", "AND c.worker_id = p_worker AND c.state = 'open'", "AND c.worker_id = p_worker"
    ),
    "renew-for-another-worker": Mutant("renew_chunk", "AND c.worker_id = p_worker AND c.state", "AND c.state"),
    "release-of-a-committed-chunk": Mutant(
        "release_chunk", "WHERE c.chunk_id = p_chunk AND c.state = 'open'", "WHERE c.chunk_id = p_chunk"
    ),
    "release-costs-an-attempt": Mutant("return_videos", "q.validation_attempts - 1", "q.validation_attempts"),
    "crash-costs-an-attempt": Mutant("return_crashed_videos", "q.validation_attempts - 1", "q.validation_attempts"),
    "crash-is-forgotten": Mutant("return_crashed_videos", "h.validation_crashes + h.is_crash::integer", "0"),
    "loss-of-a-box-counts-as-a-crash": Mutant("expire_chunk", "worker_outlived_run(p_old)", "true"),
    "loss-of-a-box-never-counts": Mutant(
        "return_crashed_videos", "p_is_crash OR q.validation_losses >= 3", "p_is_crash"
    ),
    "heartbeat-gap-is-ignored": Mutant(
        "worker_outlived_run", "greatest(w.heard_since, w.started_at) <= p_chunk.renewed_at", "true"
    ),
    "each-heartbeat-restarts-the-series": Mutant(
        "heartbeat_worker", "THEN now() ELSE w.heard_since END", "THEN now() ELSE now() END"
    ),
    "ended-run-is-swept-while-its-worker-is-silent": Mutant(
        "sweep_stale_claims", "AND worker_outlived_run(c))", "AND true)"
    ),
    "renewal-after-the-reported-end-is-ignored": Mutant(
        "sweep_stale_claims",
        "AND c.renewed_at < now() - make_interval(secs => ended.ago_s) + interval '10 seconds')",
        ")",
    ),
    "renewal-has-no-date": Mutant("renew_chunk", "renewed_at       = now()", "renewed_at       = c.renewed_at"),
    "locked-row-stops-the-sweep": Mutant(
        "sweep_stale_claims", "EXCEPTION WHEN lock_not_available", "EXCEPTION WHEN division_by_zero"
    ),
    "locked-row-stops-mark-stale-workers": Mutant(
        "mark_stale_workers", "FOR NO KEY UPDATE SKIP LOCKED)", "FOR NO KEY UPDATE)"
    ),
    "renewal-counts-as-heartbeat": Mutant("heartbeat_worker", "IF p_instance IS NOT NULL THEN", "IF true THEN"),
    "crash-suspects-share-full-chunks": Mutant(
        "pick_crash_suspects", "ELSE 0 END FROM first)", "ELSE p_size END FROM first)"
    ),
    "claim-does-not-wrap": Mutant(
        "claim_chunk",
        "v_ids := v_ids || pick_pending(p_size - cardinality(v_ids), -2147483648, v_start, p_languages, v_owner);",
        "",
    ),
    "claim-ignores-back-off": Mutant("pick_pending", "AND q.validation_not_before <= now()", ""),
    "progress-of-a-lost-chunk-stays-counted": Mutant("close_without_shard", "-p_old.videos_validated,", "0,"),
    "commit-without-results": Mutant("commit_chunk", "PERFORM record_shard(p_shard, p_chunk, p_validated);", "NULL;"),
    "commit-supersedes-other-revisions": Mutant("record_shard", " AND r.revision = v_new.revision", ""),
    "requeue-of-claimed-videos": Mutant(
        "requeue_videos",
        "WHERE q.status = 'done' AND q.validation_status IN ('validated', 'validation_failed')",
        "WHERE q.status = 'done'",
    ),
    "results-below-later-ones-are-not-requeued": Mutant(
        "requeue_videos",
        "OR q.video_id IN (\n"
        "              SELECT r.video_id FROM current_results r WHERE p_worker IN (r.worker_id, r.instance_label)))",
        ")",
    ),
    "dry-run-moves": Mutant("requeue_videos", "IF NOT p_dry_run THEN", "IF true THEN"),
    "lacking-forgets-the-revision": Mutant("requeue_videos", "(wanted.value IS NULL OR s.models", "(true OR s.models"),
    "new-video-is-asked-for-some-models-only": Mutant(
        "claim_chunk", "bool_and(validation_models", "bool_or(validation_models"
    ),
    "compaction-of-changed-sources": Mutant(
        "compact_shards", "WHERE present.video_id IS NULL OR written.video_id IS NULL", "WHERE false"
    ),
    "claim-ignores-quarantine": Mutant("claim_chunk", "PERFORM check_not_quarantined(p_worker);", ""),
    "quarantine-hits-the-next-box-of-a-worker-id": Mutant(
        "check_not_quarantined", "q.worker_id = p_worker AND q.is_current", "q.worker_id = p_worker"
    ),
    "quarantined-box-keeps-its-chunks": Mutant(
        "record_canary_result", "PERFORM release_chunk(v_chunk, 'its worker is quarantined');", "NULL;"
    ),
    "queued-video-becomes-a-canary": Mutant(
        "insert_canaries", "WHERE NOT EXISTS (SELECT FROM public.video_queue q WHERE q.video_id = c ->> 'video_id')", ""
    ),
    "commit-of-another-shard-key": Mutant("commit_chunk", "IS DISTINCT FROM shard_key_of(v_old) THEN", "IS NULL THEN"),
    "flow-run-holds-two-chunks": Mutant("claim_chunk", "c.flow_run_id = p_flow_run AND c.state = 'open'", "false"),
    "flow-run-belongs-to-the-first-worker": Mutant(
        "claim_chunk", "c.worker_id = p_worker AND c.flow_run_id", "c.flow_run_id"
    ),
    "claim-expires-at-once": Mutant("claim_chunk", "greatest(least(p_lease_s, 3600), 10)", "least(p_lease_s, 3600)"),
    "renewal-expires-at-once": Mutant("renew_chunk", "greatest(least(p_lease_s, 3600), 10)", "least(p_lease_s, 3600)"),
    "back-off-has-no-limit": Mutant("commit_chunk", "retry.attempts - 1, 20), 86400)", "retry.attempts, 30), 1e9)"),
    "first-back-off-has-no-limit": Mutant("commit_chunk", "least(greatest(p_backoff_s, 0), 3600)", "p_backoff_s"),
    "attempts-have-no-limit": Mutant("commit_chunk", "least(greatest(p_max_attempts, 1), 10)", "p_max_attempts"),
    "worker-chooses-the-crash-limit": Mutant("register_worker", "greatest(p_max_crashes, 3)", "p_max_crashes"),
    "worker-id-lock-is-advisory": Mutant(
        "lock_worker",
        "SELECT FROM worker_locks l WHERE l.worker_id = p_worker FOR UPDATE",
        "SELECT pg_advisory_xact_lock(hashtext(p_worker))",
    ),
    "registration-takes-no-lock": Mutant(
        "register_worker", "PERFORM lock_worker(p_worker);  -- of two boxes that start at once", "--"
    ),
    "one-box-fails-a-video": Mutant(
        "commit_chunk",
        "coalesce(held.validation_witness, v_owner) = v_owner AS lacks_witness",
        "false AS lacks_witness",
    ),
    "box-claims-what-it-failed": Mutant(
        "pick_pending", "AND (q.validation_witness IS NULL OR q.validation_witness IS DISTINCT FROM p_owner)", ""
    ),
    "box-claims-without-end": Mutant("claim_chunk", "p_size := least(p_size, check_allowance(p_worker));", "NULL;"),
    "failing-box-works-on": Mutant("commit_chunk", "PERFORM check_failures(v_old.worker_id);", "NULL;"),
    "box-is-compared-with-other-languages": Mutant(
        "check_failures", "FROM own JOIN others USING (language)", "FROM own, others"
    ),
    "refuted-box-works-on": Mutant("settle_failure", "j.refuted >= 20", "j.refuted >= 99999"),
    "late-objects-quarantine-a-box": Mutant(
        "settle_failure", "other.failed - other.confirmed >= j.refuted", "other.confirmed >= j.refuted"
    ),
    "crashes-of-one-box-fail-a-video": Mutant("return_crashed_videos", "has_other_owner(o.owner)", "false"),
    "transaction-claims-twice": Mutant("claim_chunk", "c.claimed_at = now()", "false"),
    "undo-keeps-attempts": Mutant("undo_box", "q.validation_attempts - a.attempts", "q.validation_attempts"),
    "rate-may-be-nan": Mutant(
        "renew_chunk",
        "greatest(least(coalesce((p_progress ->> 'segments_per_s')::real, 0), 1e6), 0)",
        "(p_progress ->> 'segments_per_s')::real",
    ),
    "segment-count-has-no-limit": Mutant(
        "check_segment_counts", "p_segments NOT BETWEEN 0 AND 100000 * p_videos::bigint", "false"
    ),
    "current-shards-are-purged": Mutant(
        "purge_retired_shards", "coalesce(r.superseded_at, 'infinity')", "r.superseded_at"
    ),
}


def apply_mutant(engine: Engine, mutant: Mutant) -> None:
    """Replace one function by its version with the bug."""
    source = read_source(mutant)
    if mutant.line not in source:
        raise AssertionError(f"the line to change is not in {mutant.function}.sql: {mutant.line!r}")
    _create(engine, source.replace(mutant.line, mutant.replacement))


def remove_mutant(engine: Engine, mutant: Mutant) -> None:
    """Replace the version with the bug by the function."""
    _create(engine, read_source(mutant))


def read_source(mutant: Mutant) -> str:
    """The function without the bug."""
    return (FUNCTIONS / f"{mutant.function}.sql").read_text()


def _create(engine: Engine, source: str) -> None:
    with engine.begin() as connection:
        connection.connection.cursor().execute(source)

"""One-line faults in the ledger's SQL that its tests must catch. `make mutants` proves that they do."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

TESTS = Path(__file__).parents[1] / "ledger"
PYTEST = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:randomly", *sys.argv[1:]]
FUNCTIONS = Path(__file__).resolve().parents[2] / "sql" / "functions"


@dataclass(frozen=True)
class Mutant:
    function: str
    line: str
    instead: str


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
    "sweep-waits-for-the-living": Mutant("sweep_stale_claims", "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),
    "the-dead-are-silent-for-ever": Mutant("mark_stale_workers", "SET status = 'offline'", "SET status = 'stale'"),
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
    "a-lost-box-is-a-crash": Mutant("expire_chunk", "worker_outlived_run(p_old)", "true"),
    "a-lost-box-is-nothing": Mutant("return_crashed_videos", "p_is_crash OR q.validation_losses >= 3", "p_is_crash"),
    "what-is-heard-again-was-always-there": Mutant(
        "worker_outlived_run", "greatest(w.heard_since, w.started_at) <= p_chunk.renewed_at", "true"
    ),
    "every-heartbeat-begins-a-series": Mutant(
        "heartbeat_worker", "THEN now() ELSE w.heard_since END", "THEN now() ELSE now() END"
    ),
    "an-ended-run-is-believed": Mutant("sweep_stale_claims", "AND worker_outlived_run(c))", "AND true)"),
    "a-renewal-after-the-end-is-overlooked": Mutant(
        "sweep_stale_claims",
        "AND c.renewed_at < now() - make_interval(secs => ended.ago_s) + interval '10 seconds')",
        ")",
    ),
    "a-renewal-is-not-dated": Mutant("renew_chunk", "renewed_at       = now()", "renewed_at       = c.renewed_at"),
    "a-vanished-box-stops-the-sweep": Mutant(
        "sweep_stale_claims", "EXCEPTION WHEN lock_not_available", "EXCEPTION WHEN division_by_zero"
    ),
    "a-vanished-box-stops-the-flags": Mutant(
        "mark_stale_workers", "FOR NO KEY UPDATE SKIP LOCKED)", "FOR NO KEY UPDATE)"
    ),
    "a-flow-run-keeps-its-worker-alive": Mutant("heartbeat_worker", "IF p_instance IS NOT NULL THEN", "IF true THEN"),
    "suspects-travel-in-company": Mutant(
        "pick_crash_suspects", "ELSE 0 END FROM first)", "ELSE p_size END FROM first)"
    ),
    "claim-does-not-wrap": Mutant(
        "claim_chunk",
        "v_ids := v_ids || pick_pending(p_size - cardinality(v_ids), -2147483648, v_start, p_languages);",
        "",
    ),
    "claim-ignores-back-off": Mutant("pick_pending", "AND q.validation_not_before <= now()", ""),
    "progress-outlives-its-chunk": Mutant("close_without_shard", "-p_old.videos_validated,", "0,"),
    "commit-without-results": Mutant("commit_chunk", "PERFORM record_shard(p_shard, p_chunk, p_validated);", "NULL;"),
    "commit-supersedes-other-revisions": Mutant("record_shard", " AND r.revision = v_new.revision", ""),
    "requeue-of-the-held": Mutant(
        "requeue_videos",
        "WHERE q.status = 'done' AND q.validation_status IN ('validated', 'validation_failed')",
        "WHERE q.status = 'done'",
    ),
    "what-lies-below-another-machines-work-is-kept": Mutant(
        "requeue_videos",
        "OR q.video_id IN (\n"
        "              SELECT r.video_id FROM current_results r WHERE p_worker IN (r.worker_id, r.instance_label)))",
        ")",
    ),
    "dry-run-moves": Mutant("requeue_videos", "IF NOT p_dry_run THEN", "IF true THEN"),
    "lacking-forgets-the-revision": Mutant("requeue_videos", "(wanted.value IS NULL OR s.models", "(true OR s.models"),
    "a-fresh-video-is-half-validated": Mutant("claim_chunk", "bool_and(validation_models", "bool_or(validation_models"),
    "compaction-of-what-has-changed": Mutant(
        "compact_shards", "WHERE present.video_id IS NULL OR written.video_id IS NULL", "WHERE false"
    ),
    "distrust-is-not-asked": Mutant("claim_chunk", "PERFORM check_not_quarantined(p_worker);", ""),
    "a-name-is-distrusted-whoever-bears-it": Mutant(
        "check_not_quarantined", "q.worker_id = p_worker AND q.is_current", "q.worker_id = p_worker"
    ),
    "the-distrusted-keep-what-they-hold": Mutant(
        "record_canary_result", "PERFORM release_chunk(v_chunk, 'its worker is quarantined');", "NULL;"
    ),
    "somebodys-video-becomes-a-canary": Mutant(
        "insert_canaries", "WHERE NOT EXISTS (SELECT FROM public.video_queue q WHERE q.video_id = c ->> 'video_id')", ""
    ),
    "a-shard-of-another-name": Mutant("commit_chunk", "IS DISTINCT FROM shard_key_of(v_old) THEN", "IS NULL THEN"),
    "a-run-holds-two-chunks": Mutant("claim_chunk", "c.flow_run_id = p_flow_run AND c.state = 'open'", "false"),
    "a-run-is-whose-who-named-it-first": Mutant(
        "claim_chunk", "c.worker_id = p_worker AND c.flow_run_id", "c.flow_run_id"
    ),
    "a-claim-lapses-at-once": Mutant("claim_chunk", "greatest(least(p_lease_s, 3600), 10)", "least(p_lease_s, 3600)"),
    "a-renewal-lapses-at-once": Mutant("renew_chunk", "greatest(least(p_lease_s, 3600), 10)", "least(p_lease_s, 3600)"),
    "a-video-is-put-off-for-ever": Mutant(
        "commit_chunk", "retry.attempts - 1, 20), 86400)", "retry.attempts, 30), 1e9)"
    ),
    "a-back-off-begins-anywhere": Mutant("commit_chunk", "least(greatest(p_backoff_s, 0), 3600)", "p_backoff_s"),
    "a-video-goes-round-for-ever": Mutant("commit_chunk", "least(greatest(p_max_attempts, 1), 10)", "p_max_attempts"),
    "a-worker-makes-poison": Mutant("register_worker", "greatest(p_max_crashes, 3)", "p_max_crashes"),
    "a-name-is-held-by-anybody": Mutant(
        "lock_worker",
        "SELECT FROM worker_locks l WHERE l.worker_id = p_worker FOR UPDATE",
        "SELECT pg_advisory_xact_lock(hashtext(p_worker))",
    ),
    "a-name-is-not-held": Mutant(
        "register_worker", "PERFORM lock_worker(p_worker);  -- of two boxes that start at once", "--"
    ),
    "a-rate-is-no-number": Mutant(
        "renew_chunk",
        "greatest(least(coalesce((p_progress ->> 'segments_per_s')::real, 0), 1e6), 0)",
        "(p_progress ->> 'segments_per_s')::real",
    ),
    "a-count-is-any-number": Mutant(
        "check_segment_counts", "p_segments NOT BETWEEN 0 AND 100000 * p_videos::bigint", "false"
    ),
    "current-shards-are-forgotten": Mutant(
        "purge_retired_shards", "coalesce(r.superseded_at, 'infinity')", "r.superseded_at"
    ),
}


def apply_mutant(engine: Engine, mutant: Mutant) -> None:
    """Replace one function by its broken twin."""
    source = (FUNCTIONS / f"{mutant.function}.sql").read_text()
    if mutant.line not in source:
        raise AssertionError(f"the line to break is not in {mutant.function}.sql any more: {mutant.line!r}")
    with engine.begin() as connection:
        connection.connection.cursor().execute(source.replace(mutant.line, mutant.instead))


def main() -> int:
    """Print a line a mutant; fail if one survives, or if the tests fail without any."""
    if run_tests(None).returncode != 0:
        print("the tests fail without a mutant: repair them first")
        return 1
    survivors = [name for name in MUTANTS if not is_caught(name)]
    print(f"{len(MUTANTS) - len(survivors)} of {len(MUTANTS)} mutants caught")
    return 1 if survivors else 0


def is_caught(name: str) -> bool:
    done = run_tests(name)
    failed = next(
        (line.split()[1].split("::")[-1] for line in done.stdout.splitlines() if line.startswith("FAILED")), None
    )
    print(f"{name:34} {'caught by ' + failed if failed else 'SURVIVED'}", flush=True)
    return failed is not None


def run_tests(mutant: str | None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"VFLEET_MUTANT": mutant} if mutant else {})
    # test_migrate.py migrates again, which mends the mutant: it would catch every one for the wrong reason.
    command = [*PYTEST, str(TESTS), f"--ignore={TESTS / 'test_migrate.py'}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main())

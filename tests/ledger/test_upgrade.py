"""A ledger of release 0.1 is migrated: it keeps every row, loses the old names, and works."""

from pathlib import Path

import pytest

from tests.support.ledger_helpers import claim, engine_for, execute, expire, fetch, shard
from validation.domain import WorkerProfile
from validation.ledger.canaries import read_canary_results, read_quarantined_workers
from validation.ledger.chunks import commit_chunk
from validation.ledger.fleet import read_bans, read_rented_instances
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.migrate import database_migration, migrate, newest_migration
from validation.ledger.queries import audit_ledger, read_view
from validation.ledger.workers import register_worker

DUMP = Path(__file__).parent / "ledger_0_1.sql"
ROWS = {
    "video_queue": 14, "worker_validators": 4, "validation_chunks": 7, "validation_shards": 4,
    "validation_results": 7, "fleets": 1, "fleet_instances": 3, "fleet_blacklist": 5, "fleet_credit_readings": 1,
    "validation.box_keys": 1, "validation.issued_credentials": 2, "validation.canaries": 2,
    "validation.canary_evaluations": 2, "validation.worker_locks": 4,
}  # fmt: skip
OBJECTS = """
    SELECT 'function ' || p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'validation'::regnamespace
    UNION ALL
    SELECT 'relation ' || c.oid::regclass::text || ' ' || a.attname
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace IN ('public'::regnamespace, 'validation'::regnamespace) AND c.relkind IN ('r', 'v', 'i')
    UNION ALL
    SELECT 'constraint ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
    FROM pg_constraint c WHERE c.connamespace IN ('public'::regnamespace, 'validation'::regnamespace)
    ORDER BY 1
"""


@pytest.fixture
def upgraded(postgres, migrated_template):
    """A copy of a ledger of release 0.1, migrated. The template's migration has made the roles, which the dump needs."""
    engine = engine_for(postgres.create_database("upgraded"))
    with engine.begin() as connection:
        connection.connection.driver_connection.execute(DUMP.read_text())
    assert database_migration(engine) == "0016"
    migrate(engine)
    yield engine
    engine.dispose()
    postgres.drop_database("upgraded")


def test_an_upgraded_ledger_keeps_every_row(upgraded):
    """Each table has as many rows as before, under its new name."""
    counts = {table: fetch(upgraded, f"SELECT count(*) FROM {table}")[0][0] for table in ROWS}
    assert counts == ROWS
    assert database_migration(upgraded) == newest_migration()


def test_an_upgraded_ledger_is_a_new_ledger(upgraded, ledger):
    """It has the same functions, views, columns and constraints as a ledger that began empty, and no others."""
    assert fetch(upgraded, OBJECTS) == fetch(ledger, OBJECTS)


def test_every_view_of_an_upgraded_ledger_answers(upgraded):
    """Views over renamed tables and values return rows as well."""
    views = fetch(
        upgraded, "SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = 'validation'::regnamespace"
    )
    assert len(views) > 20
    for (view,) in views:
        read_view(upgraded, view)
    assert [check for check in audit_ledger(upgraded) if check.violations] == []


def test_an_upgrade_renames_values(upgraded):
    """Canary outcomes, ban reasons and the reasons of closed boxes have their present names."""
    assert {(row.video_id, row.outcome) for row in read_canary_results(upgraded)} == {
        ("c0", "wrong"), ("c1", "inconclusive"),
    }  # fmt: skip
    assert read_quarantined_workers(upgraded) == []
    assert {ban.reason for ban in read_bans(upgraded)} == {
        "gpu_mismatch", "no_progress", "heartbeat_timeout", "quarantined", "never_booted",
    }  # fmt: skip
    assert {box.reason for box in read_rented_instances(upgraded, "f")} == {None, "gpu_mismatch", "heartbeat_timeout"}


def test_an_upgraded_ledger_serves_a_chunk(upgraded):
    """An open chunk is swept, its videos are claimed again and committed."""
    for (chunk,) in fetch(upgraded, "SELECT chunk_id FROM validation_chunks WHERE state = 'open'"):
        expire(upgraded, chunk)
    assert sum(swept.videos_returned for swept in sweep_stale_claims(upgraded)) == 3
    execute(upgraded, "UPDATE video_queue SET validation_not_before = 'epoch'")
    register_worker(upgraded, WorkerProfile("dora", config={"instance": "dora-1"}))
    while chunk := claim(upgraded, worker_id="dora", size=5):
        validated = {video.video_id: 3 for video in chunk.videos}
        receipt = shard(of=chunk)
        commit_chunk(upgraded, chunk.chunk_id, shard=receipt, validated=validated, failed=[], max_attempts=3)
    assert fetch(upgraded, "SELECT DISTINCT validation_status FROM video_queue ORDER BY 1") == [
        ("validated",), ("validation_failed",),
    ]  # fmt: skip
    assert [check for check in audit_ledger(upgraded) if check.violations] == []

"""`vfleet` as an operator runs it: a process, its exit code, one sentence."""

import os
import subprocess
import sys

import pytest

from tests.support.ledger_helpers import claim, expire, fetch, statuses

VFLEET = [sys.executable, "-m", "validation.cli"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `vfleet` in a process of its own."""
    return subprocess.run(
        [*VFLEET, *arguments], env=os.environ | environment, capture_output=True, text=True, check=False
    )


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence on stderr; anything more is a leak of our insides."""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("vfleet: ")
    return line


UNREACHABLE = "postgresql://user:secret@127.0.0.1:9/x"


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["migrate"], {"DATABASE_URL": ""}, 2, "DATABASE_URL is not set"),
        (["migrate"], {"DATABASE_URL": "mysql://x/y"}, 2, "needs Postgres"),
        (["migrate"], {"DATABASE_URL": UNREACHABLE}, 3, "127.0.0.1:9/x is unreachable"),
        (["audit"], {"DATABASE_URL": UNREACHABLE, "VFLEET_RESULTS_URL": "memory://"}, 3, "unreachable"),
        (["seed", "/nowhere.csv"], {"DATABASE_URL": UNREACHABLE}, 2, "/nowhere.csv"),
        (["run-chunk"], {"DATABASE_URL": UNREACHABLE, "VFLEET_SUITE": "best"}, 2, "known suites are"),
        (["run-chunk"], {"DATABASE_URL": UNREACHABLE, "VFLEET_LANGUAGES": "hi,gibberish"}, 2, "gibberish"),
        (["run-chunk"], {"DATABASE_URL": UNREACHABLE, "PARQUET_SHARD_SIZE": "many"}, 2, "PARQUET_SHARD_SIZE"),
        (["run-chunk"], {"DATABASE_URL": UNREACHABLE, "VFLEET_SOURCE_KEY": "{id}.tar"}, 2, "{video_id}"),
    ],
)
def test_errors_are_one_sentence_and_an_exit_code(arguments, environment, code, says):
    """2: change something; 3: a service must come back. Never a traceback, never a password."""
    done = run(*arguments, **environment)
    assert says in refusal(done)
    assert "secret" not in done.stderr
    assert done.returncode == code


def test_unmigrated_ledger_is_refused(postgres):
    """No command writes to a database whose schema it does not know."""
    url = postgres.create_database("unmigrated")
    done = run("sweep", DATABASE_URL=url, VFLEET_RESULTS_URL="memory://")
    assert "not migrated at all" in refusal(done)
    assert done.returncode == 2
    postgres.drop_database("unmigrated")


def test_migrate_dry_run_needs_no_database():
    """`vfleet migrate --dry-run` prints the SQL and connects to nothing."""
    done = run("migrate", "--dry-run")
    assert done.returncode == 0
    assert "CREATE OR REPLACE FUNCTION validation.claim_chunk" in done.stdout


def test_seeding_twice_enters_videos_once(box, tmp_path):
    """A manifest may be seeded again; what it lacks is said by row."""
    manifest = tmp_path / "videos.csv"
    manifest.write_text("video_id,language,segment_count\na,hi,3\nb,,\n")
    assert "2 videos entered, 0 were there already" in run("seed", str(manifest)).stdout
    assert "0 videos entered, 2 were there already" in run("seed", str(manifest)).stdout
    manifest.write_text("video_id,language,segment_count\na,hi,3\nc,hi,three\n")
    done = run("seed", str(manifest))
    assert "row 2: segment_count is 'three'" in refusal(done)
    assert sorted(statuses(box.engine)) == ["a", "b"]


def test_sweep_and_audit_commands(box):
    """`vfleet sweep` takes back the chunk of a dead worker without Prefect, and `vfleet audit` then finds nothing."""
    box.add_videos("a", "b")
    expire(box.engine, claim(box.engine).chunk_id)
    assert "taken back: lease expired" in run("sweep").stdout
    done = run("audit")
    assert (done.returncode, done.stdout) == (0, "0 findings in 0 committed shards\n")


def test_requeue_resets_failed_videos(box):
    """Only the named videos are requeued; naming none is refused."""
    box.add_videos("a", tar=False)
    assert run("run-chunk", VFLEET_SUITE="vad").returncode == 0
    assert statuses(box.engine) == {"a": "validation_failed"}
    assert "the queue has no video 'b'" in refusal(run("requeue", "b"))
    assert run("requeue", "--failed", "--dry-run").stdout.endswith("1 videos would go back to the queue\n")
    assert run("requeue", "a").stdout.endswith("1 videos back in the queue\n")
    assert fetch(box.engine, "SELECT validation_status, validation_attempts FROM video_queue") == [("pending", 0)]
    assert run("requeue").returncode == 2

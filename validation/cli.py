"""`vfleet`: what an operator does by hand.

Exit codes: 0 done, 2 bad input, 3 a service is unreachable, 1 anything else.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from validation.errors import BadInput, FleetError, Unreachable
from validation.fleet.cli import add_fleet_commands
from validation.local.chaos.command import add_chaos_command

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from sqlalchemy import Engine

# Each command imports what it needs: `vfleet --help` answers at once, and the demo's extra is not needed by others.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. A failure is one sentence on stderr, never a traceback."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.command(options) or 0)
    except FleetError as error:
        print(f"vfleet: {error}", file=sys.stderr)
        return exit_code(error)
    except KeyboardInterrupt:
        print("vfleet: interrupted", file=sys.stderr)
        return 130


def exit_code(error: FleetError) -> int:
    """2: the caller must change something; 3: a service must come back; 1: neither."""
    if isinstance(error, BadInput):
        return 2
    return 3 if isinstance(error, Unreachable) else 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vfleet", description="Operate the validation fleet.")
    commands = parser.add_subparsers(title="commands", required=True)

    migrating = commands.add_parser("migrate", help="bring the ledger to the schema that this code knows")
    migrating.add_argument("--dry-run", action="store_true", help="print the SQL and change nothing")
    migrating.set_defaults(command=run_migrate)

    seeding = commands.add_parser("seed", help="enter transcribed videos into the queue")
    seeding.add_argument("manifest", type=Path, help=".json, .jsonl or .csv with video_id, language, segment_count")
    seeding.set_defaults(command=run_seed)

    chunk = commands.add_parser("run-chunk", help="validate one chunk here and now, without Prefect")
    chunk.add_argument("--size", type=int, default=None, help="videos to claim (default: PARQUET_SHARD_SIZE)")
    chunk.set_defaults(command=run_one_chunk)

    deploying = commands.add_parser("deploy", help="create pools, deployments and automations on Prefect's server")
    deploying.add_argument("--home", default="/app", help="where the project lies on the workers (default: /app)")
    deploying.set_defaults(command=run_deploy)

    sweeping = commands.add_parser("sweep", help="take back what dead workers hold, by the clock alone")
    sweeping.set_defaults(command=run_sweep)

    auditing = commands.add_parser("audit", help="prove that nothing is lost, doubled or altered; changes nothing")
    auditing.set_defaults(command=run_audit)

    requeuing = commands.add_parser("requeue", help="give failed videos a fresh start")
    chosen = requeuing.add_mutually_exclusive_group(required=True)
    chosen.add_argument("video", nargs="*", default=[], help="ids of failed videos")
    chosen.add_argument("--all", action="store_true", help="every failed video")
    requeuing.set_defaults(command=run_requeue)

    demo = commands.add_parser("demo", help="do the whole job on this machine, on real speech")
    demo.add_argument("--folder", type=Path, default=Path(".local"), help="where everything is kept")
    demo.add_argument("--keep", action="store_true", help="leave the stack and the Prefect UI up until Ctrl-C")
    demo.set_defaults(command=run_demo)
    add_chaos_command(commands)
    add_fleet_commands(commands)
    return parser


def ledger_from_environment() -> "Engine":
    """The ledger of DATABASE_URL."""
    from validation.ledger.engine import open_engine
    from validation.settings import load_settings

    return open_engine(load_settings().database_url.get_secret_value())


def results_from_environment() -> "ObjectStore":
    """The store of VFLEET_RESULTS_URL."""
    from validation.corpus.store import open_store
    from validation.settings import load_settings

    settings = load_settings()
    return open_store(settings.results_url, settings)


def run_migrate(options: argparse.Namespace) -> None:
    from validation.ledger.migrate import migrate, render_migration

    if options.dry_run:
        print(render_migration())
        return
    print(f"the ledger stands at migration {migrate(ledger_from_environment())}")


def run_seed(options: argparse.Namespace) -> None:
    from validation.ledger.migrate import require_revision
    from validation.ledger.seed import read_manifest, seed_videos

    videos = read_manifest(options.manifest)
    engine = ledger_from_environment()
    require_revision(engine)
    new = seed_videos(engine, videos)
    print(f"{new} videos entered, {len(videos) - new} were there already")


def run_one_chunk(options: argparse.Namespace) -> None:
    from validation.chunk.open import open_session
    from validation.chunk.run import run_chunk
    from validation.settings import load_settings

    done = run_chunk(open_session(load_settings()), size=options.size)
    if done is None:
        print("nothing to claim: no transcribed video is waiting")
        return
    print(f"{done.videos_validated} videos validated ({done.segments} segments), {done.videos_failed} failed")


def run_deploy(options: argparse.Namespace) -> None:
    from validation.local.prefect_client import PrefectClient

    if "PREFECT_API_URL" not in os.environ:
        raise BadInput("PREFECT_API_URL is not set: it is the Prefect server's address, ending in /api")
    PrefectClient(os.environ, home=options.home).deploy_all()
    print(f"deployed to {os.environ['PREFECT_API_URL']}; the workers run the code in {options.home}")


def run_sweep(_options: argparse.Namespace) -> None:
    from validation.control.sweep import sweep
    from validation.ledger.migrate import require_revision

    engine, results = ledger_from_environment(), results_from_environment()
    require_revision(engine)
    report = sweep(engine, results, ended_runs=[])
    for chunk in report.swept:
        print(f"chunk {chunk.chunk_id} of {chunk.worker_id} taken back: {chunk.reason}")
    print(
        f"{len(report.swept)} chunks, {report.stranded_videos} stranded videos, "
        f"{len(report.silent_workers)} workers flagged, {len(report.orphans)} orphans deleted"
    )


def run_audit(_options: argparse.Namespace) -> int:
    from validation.control.audit import audit
    from validation.ledger.migrate import require_revision
    from validation.ledger.views import read_committed_shards

    engine, results = ledger_from_environment(), results_from_environment()
    require_revision(engine)
    findings = 0
    for finding in audit(engine, results):
        print(finding)
        findings += 1
    print(f"{findings} findings in {len(read_committed_shards(engine))} committed shards")
    return 1 if findings else 0


def run_requeue(options: argparse.Namespace) -> None:
    from validation.ledger.protocol import requeue_failed

    count = requeue_failed(ledger_from_environment(), None if options.all else options.video)
    print(f"{count} videos back in the queue")


def run_demo(options: argparse.Namespace) -> int:
    from validation.local.demo import run_demo as run

    return run(options.folder, keep=options.keep)


if __name__ == "__main__":
    sys.exit(main())

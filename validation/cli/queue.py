"""`vfleet migrate | seed`: the ledger and its queue."""

import argparse
from pathlib import Path

from validation.cli import Subparsers


def add_queue_commands(commands: Subparsers) -> None:
    migrating = commands.add_parser("migrate", help="bring the ledger to the schema that this code knows")
    migrating.add_argument("--dry-run", action="store_true", help="print the SQL and change nothing")
    migrating.set_defaults(command=run_migrate)

    seeding = commands.add_parser("seed", help="enter transcribed videos into the queue")
    seeding.add_argument("manifest", type=Path, help=".json, .jsonl or .csv with video_id, language, segment_count")
    seeding.set_defaults(command=run_seed)


def run_migrate(options: argparse.Namespace) -> None:
    from validation.ledger.migrate import migrate, render_migration
    from validation.services import open_ledger

    if options.dry_run:
        print(render_migration())
        return
    print(f"the ledger stands at migration {migrate(open_ledger(check_revision=False))}")


def run_seed(options: argparse.Namespace) -> None:
    from validation.ledger.seed import read_manifest, seed_videos
    from validation.services import open_ledger

    videos = read_manifest(options.manifest)
    new = seed_videos(open_ledger(), videos)
    print(f"{new} videos entered, {len(videos) - new} were there already")

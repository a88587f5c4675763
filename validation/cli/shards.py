"""`vfleet shards verify | ls | compact`: the results, as files."""

import argparse
from pathlib import Path

from validation.cli import Subparsers


def add_shards_commands(commands: Subparsers) -> None:
    """Add `shards` with its commands. What they need is imported when one runs."""
    shards = commands.add_parser("shards", help="the committed shards: verify, list, compact")
    subcommands = shards.add_subparsers(title="commands", required=True)

    verifying = subcommands.add_parser("verify", help="read every committed shard, against ledger and manifest")
    verifying.add_argument("--log", type=Path, help="write down what is done, and go on from there the next time")
    verifying.add_argument("--readers", type=int, default=8, help="shards to read at a time (default: 8)")
    verifying.set_defaults(command=run_verify)

    listing = subcommands.add_parser("ls", help="list committed shards, and who made how much")
    listing.add_argument("--suite", help="only of this suite")
    listing.add_argument("--json", action="store_true", help="one JSON line a shard")
    listing.set_defaults(command=run_ls)

    compacting = subcommands.add_parser("compact", help="make fewer, larger shards; the old ones are kept")
    compacting.add_argument("--target-mb", type=int, default=64, help="size of a new shard (default: 64)")
    compacting.add_argument("--dry-run", action="store_true", help="say what would become one shard")
    compacting.add_argument("--delete-old", action="store_true", help="delete shards that nobody has needed for a day")
    compacting.add_argument("--older-than-h", type=float, default=24.0, help="hours, instead of a day")
    compacting.set_defaults(command=run_compact)


def run_verify(options: argparse.Namespace) -> int:
    from validation.control.verify import verify_shards
    from validation.services import open_ledger, open_results

    checked = bad = 0
    for verified in verify_shards(open_ledger(), open_results(), log=options.log, readers=max(1, options.readers)):
        checked += 1
        if verified.problem is not None:
            bad += 1
            print(verified.problem, flush=True)
    print(f"{checked} shards read, {bad} of them bad")
    return 1 if bad else 0


def run_ls(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from validation.ledger.queries import read_committed_shards, read_retired_shards, read_suite_revisions
    from validation.services import open_ledger

    engine = open_ledger()
    shards = [shard for shard in read_committed_shards(engine) if options.suite in {None, shard.suite}]
    for shard in shards:
        if options.json:
            print(json.dumps(asdict(shard), default=str))
        else:
            stale = f"  {len(shard.superseded)} videos superseded" if shard.superseded else ""
            counts = f"{shard.segments:9} {shard.shard_bytes:12}"
            print(f"{shard.suite:10} {shard.revision}  {counts}  {shard.shard_key}{stale}")
    if options.json:
        return
    for revision in read_suite_revisions(engine):
        models = ", ".join(f"{model} {of}" for model, of in revision.models.items())
        print(f"{revision.suite} {revision.revision}: {revision.videos} videos in {revision.shards} shards ({models})")
    retired = read_retired_shards(engine)
    print(f"{len(retired)} retired shards of {sum(shard.shard_bytes for shard in retired)} bytes are kept")


def run_compact(options: argparse.Namespace) -> None:
    from validation.control.compact import compact_all, delete_retired, plan_compactions
    from validation.ledger.queries import read_committed_shards
    from validation.services import open_ledger, open_results

    engine, results = open_ledger(), open_results()
    target_bytes = options.target_mb << 20
    if options.dry_run:
        for planned in plan_compactions(results, read_committed_shards(engine), target_bytes=target_bytes):
            print(f"{len(planned)} shards of {sum(shard.shard_bytes for shard in planned)} bytes would become one")
        return
    for group, made in compact_all(engine, results, target_bytes=target_bytes):
        became = (
            f"{made.key}, {made.size_bytes} bytes" if made else "nothing: they changed meanwhile, or it took too long"
        )
        print(f"{len(group)} shards of {sum(shard.shard_bytes for shard in group)} bytes became {became}", flush=True)
    if options.delete_old:
        deleted = delete_retired(engine, results, older_than_s=int(options.older_than_h * 3600))
        print(f"{len(deleted)} retired shards deleted")

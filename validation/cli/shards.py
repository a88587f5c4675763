"""`vfleet shards verify | ls | compact | catalogue | copy`: check, list, merge and copy the committed shards."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from validation.cli import JsonOption
from validation.exit_codes import ExitCode
from validation.output import print_json, print_table, say

PANEL = "Results"

shards_app = typer.Typer(no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    app.add_typer(shards_app, name="shards", rich_help_panel=PANEL, help="The committed shards: list, verify, compact.")


@shards_app.command()
def verify(
    log: Annotated[
        Path | None, typer.Option(help="File that records verified shards; the next run with it skips them.")
    ] = None,
    readers: Annotated[int, typer.Option(min=1, help="Shards to read at once.")] = 8,
    json: JsonOption = False,
) -> int:
    """Read every committed shard and compare it with the ledger and its manifest. Exit 1 if one is bad.

    Example: `vfleet shards verify --log verified.jsonl`
    """
    from validation.control.audit import verify_shards
    from validation.services import open_ledger, open_results

    checked = bad = 0
    for verified in verify_shards(open_ledger(), open_results(), log=log, readers=readers):
        checked += 1
        bad += verified.problem is not None
        if json:
            print_json(verified)
        elif verified.problem is not None:
            say(verified.problem)
    if not json:
        say(f"{checked} shards read, {bad} of them bad")
    return ExitCode.FAILED if bad else ExitCode.OK


@shards_app.command()
def ls(
    suite: Annotated[str | None, typer.Option(help="Only shards of this suite.")] = None,
    json: JsonOption = False,
) -> None:
    """List the committed shards, and the suite revisions that wrote them."""
    from validation.ledger.queries import read_committed_shards, read_retired_shards, read_suite_revisions
    from validation.services import open_ledger

    engine = open_ledger()
    shards = [shard for shard in read_committed_shards(engine) if suite in {None, shard.suite}]
    if json:
        for shard in shards:
            print_json(asdict(shard))
        return
    print_table(
        ("suite", "revision", "segments", "bytes", "superseded videos", "shard"),
        [
            (
                shard.suite,
                shard.revision,
                shard.segments,
                shard.shard_bytes,
                len(shard.superseded) or None,
                shard.shard_key,
            )
            for shard in shards
        ],
    )
    for revision in read_suite_revisions(engine):
        models = ", ".join(f"{model} {of}" for model, of in revision.models.items())
        say(f"{revision.suite} {revision.revision}: {revision.videos} videos in {revision.shards} shards ({models})")
    retired = read_retired_shards(engine)
    say(f"{len(retired)} retired shards of {sum(shard.shard_bytes for shard in retired)} bytes are kept")


@shards_app.command()
def compact(
    target_mb: Annotated[int, typer.Option(min=1, metavar="MIB", help="Size of a new shard.")] = 64,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print which shards would become one.")] = False,
    delete_old: Annotated[
        bool, typer.Option("--delete-old", help="Also delete shards that a compaction replaced, after --older-than-h.")
    ] = False,
    older_than_h: Annotated[
        float, typer.Option(metavar="HOURS", min=0, help="With --delete-old: minimum time since a shard was replaced.")
    ] = 24.0,
) -> None:
    """Merge small shards into larger ones. Replaced shards are kept, so that readers can finish.

    Examples: `vfleet shards compact --dry-run`, `vfleet shards compact --delete-old`
    """
    from validation.control.catalogue import publish_catalogue
    from validation.control.compact import compact_all, delete_retired, plan_compactions
    from validation.ledger.queries import read_committed_shards
    from validation.services import open_ledger, open_results

    engine, results = open_ledger(), open_results()
    target_bytes = target_mb << 20
    if dry_run:
        for planned in plan_compactions(results, read_committed_shards(engine), target_bytes=target_bytes):
            say(f"{len(planned)} shards of {sum(shard.shard_bytes for shard in planned)} bytes would become one")
        return
    for group, made in compact_all(engine, results, target_bytes=target_bytes):
        became = f"{made.key}, {made.size_bytes} bytes" if made else "nothing: they changed meanwhile, or time ran out"
        say(f"{len(group)} shards of {sum(shard.shard_bytes for shard in group)} bytes became {became}")
    publish_catalogue(engine, results)
    if delete_old:
        deleted = delete_retired(engine, results, older_than_s=int(older_than_h * 3600))
        say(f"{len(deleted)} retired shards deleted")


@shards_app.command()
def catalogue() -> None:
    """Write the catalogue of the committed shards into the results store now. Sweeps do the same every two minutes.

    With the catalogue, `vfleet select`, `vfleet report` and other readers need no ledger.
    """
    from validation.control.catalogue import publish_catalogue
    from validation.services import open_ledger, open_results
    from validation.shards.catalogue import CATALOGUE_KEY

    written = publish_catalogue(open_ledger(), open_results())
    say(f"{CATALOGUE_KEY} is up to date" if written is None else f"{CATALOGUE_KEY} lists {len(written.shards)} shards")


@shards_app.command()
def copy(
    folder: Annotated[Path, typer.Argument(help="Folder to copy to; made if missing.")],
    suite: Annotated[str | None, typer.Option(help="Only shards of this suite.")] = None,
    bucket: Annotated[str | None, typer.Option(metavar="URL", help="Another results store.")] = None,
) -> None:
    """Copy the shards to read into a folder that any parquet reader opens: no manifests, no superseded or canary rows.

    Needs the results store and its catalogue, not the ledger. Copied files are checked by their sha256; a copy that was
    interrupted is continued.

    Example: `vfleet shards copy results`, then `pandas.read_parquet("results/shards")`
    """
    from validation.analysis.selection.copy import copy_shards
    from validation.cli.results import load_results_settings

    copied = copy_shards(load_results_settings(bucket), folder, suite)
    say(f"{len(copied.shards)} shards with {sum(shard.segments for shard in copied.shards):,} segments in {folder}")

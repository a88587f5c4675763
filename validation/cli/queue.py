"""`vfleet migrate | seed | requeue | sweep | audit | repair`: maintain the ledger and its queue."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from validation.cli import JsonOption
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import print_json, print_table, say

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from validation.ledger.maintenance import Requeue

PANEL = "Queue"


def add_commands(app: typer.Typer) -> None:
    for command in (migrate, seed, requeue, sweep, audit, repair):
        app.command(rich_help_panel=PANEL)(command)


def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL and change nothing.")] = False,
) -> None:
    """Bring the ledger to the schema of this version.

    Run it once before the first worker starts, and again after every update: `vfleet migrate --dry-run`, then
    `vfleet migrate`.
    """
    from validation.ledger.migrate import migrate as migrate_ledger
    from validation.ledger.migrate import render_migration
    from validation.services import open_ledger

    if dry_run:
        print(render_migration())
        return
    revision = migrate_ledger(open_ledger(check_migration=False))
    say(f"the ledger is at migration {revision}")


def seed(
    manifest: Annotated[
        Path, typer.Argument(help="A .json, .jsonl, .csv or .tsv file with video_id, language and segment_count.")
    ],
) -> None:
    """Enter transcribed videos into the queue. Videos that the queue already has do not change.

    Example: `vfleet seed videos.csv`
    """
    from validation.ledger.seed import read_manifest, seed_videos
    from validation.services import open_ledger

    videos = read_manifest(manifest)
    new = seed_videos(open_ledger(), videos)
    say(f"{new} videos entered, {len(videos) - new} were there already")


def requeue(
    video: Annotated[list[str] | None, typer.Argument(help="Ids of videos.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All finished videos, if no other condition is given.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only videos that failed.")] = False,
    validated: Annotated[bool, typer.Option("--validated", help="Only videos that were validated.")] = False,
    language: Annotated[
        str | None, typer.Option(metavar="CODES", help="Only these languages, comma-separated, in any spelling.")
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(metavar="VERDICTS", help="Only videos with a segment of these verdicts, by the suite's rules."),
    ] = None,
    worker: Annotated[
        str | None, typer.Option(help="Only videos with a result of this worker, or of the box with this label.")
    ] = None,
    suite: Annotated[str | None, typer.Option(help="Only videos with a result of this suite.")] = None,
    revision: Annotated[
        str | None, typer.Option(help="Only videos with a result of this suite revision; see `vfleet shards ls`.")
    ] = None,
    lacking: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL[=REVISION]",
            help="Only validated videos without an answer of this model (in this revision). Only the models that are "
            "named so are run again. May be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how many videos it would be; change nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Make videos pending again: those that meet every condition, with their attempts reset.

    Their present results stay readable until the same suite and revision is committed again. Ids, languages, suites,
    revisions, models and workers that the ledger does not know are refused by name.

    Examples: `vfleet requeue --failed --dry-run`, `vfleet requeue --worker val-7 --validated`,
    `vfleet requeue --lacking whisper`, `vfleet requeue --dry-run -- -dQw4w9WgXc`
    """
    from validation.ledger.maintenance import Requeue, requeue_videos
    from validation.services import open_ledger

    if failed and validated:
        raise BadInput("--failed and --validated exclude each other: a video is one of the two")
    conditions = (video, failed, validated, language, verdict, worker, suite, revision, lacking)
    if not every and not any(conditions):
        raise BadInput("no videos are named: give ids or a condition, or --all")
    status: Literal["validation_failed", "validated"] | None = None
    if failed or validated:
        status = "validation_failed" if failed else "validated"
    engine = open_ledger()
    condition = Requeue(
        video_ids=list(video) if video else None,
        status=status,
        languages=_match_labels(engine, _split_commas(language)),
        worker_id=worker,
        suite=suite,
        revision=revision,
        lacking=_parse_models(lacking) if lacking else None,
    )
    _refuse_unknown_names(engine, condition)
    if verdict:
        condition = replace(condition, video_ids=_find_by_verdict(engine, condition, verdict))
    rows = requeue_videos(engine, condition, dry_run=dry_run)
    if json:
        for row in rows:
            print_json(row)
        return
    print_table(("videos", "language", "status"), [(row.videos, row.language, row.status) for row in rows])
    would = "would go back to" if dry_run else "back in"
    say(f"{sum(row.videos for row in rows)} videos {would} the queue")


def _refuse_unknown_names(engine: "Engine", condition: "Requeue") -> None:
    """Refuse a condition with an unknown video id, suite, revision, model or worker: it would select too few videos.

    A suite or model is known if the ledger or this version of the program has it.

    Raises:
        BadInput: a name is unknown; the message has it, and a near known name if there is one.
    """
    from validation.ledger.maintenance import require_videos
    from validation.ledger.queries import read_suite_revisions, read_view
    from validation.models.suites import SUITES

    require_videos(engine, condition.video_ids or ())
    revisions = read_suite_revisions(engine)
    if condition.suite is not None:
        _require_known("suite", [condition.suite], {*SUITES, *(each.suite for each in revisions)}, "in the ledger")
    if condition.revision is not None:
        _require_known("revision", [condition.revision], {each.revision for each in revisions}, "in the ledger")
    if condition.lacking is not None:
        models = {model for spec in SUITES.values() for model in spec.models}
        models |= {model for each in revisions for model in each.models}
        _require_known("model", list(condition.lacking), models, "in any suite")
    if condition.worker_id is not None:
        workers = {row["worker_id"] for row in read_view(engine, "worker_liveness")}
        labels = {row["label"] for row in read_view(engine, "rented_instances")}
        _require_known("worker", [condition.worker_id], workers | labels, "in the ledger")


def _match_labels(engine: "Engine", languages: list[str] | None) -> list[str] | None:
    """Return the labels in the queue that mean one of these languages, in any spelling; None if no language is given.

    Raises:
        BadInput: a given language matches no label of the queue.
    """
    from validation.languages import normalize_language_code
    from validation.ledger.queries import read_view

    if languages is None:
        return None
    labels = {row["language"]: normalize_language_code(row["language"]) for row in read_view(engine, "queue_progress")}
    found: set[str] = set()
    for language in languages:
        code = normalize_language_code(language)
        matching = {label for label, own in labels.items() if label == language or (code and own == code)}
        if not matching:
            _require_known("language", [language], labels, "in the queue")
        found |= matching
    return sorted(found)


def _require_known(kind: str, names: Sequence[str], known: Collection[str], place: str) -> None:
    """Raise ``BadInput`` for the first name that is not known. The message has kind, place and any near name."""
    for name in names:
        if name not in known:
            near = get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise BadInput(f"there is no {kind} {name!r} {place}{hint}")


def _split_commas(given: str | None) -> list[str] | None:
    """Return the non-empty words between commas; None if the option is not given."""
    return [each.strip() for each in given.split(",") if each.strip()] if given else None


def _find_by_verdict(engine: "Engine", condition: "Requeue", verdict: str) -> list[str]:
    """Return the ids of videos that have a segment with one of the verdicts, by the suite's own rules.

    If the condition has video ids, only these videos are returned.
    """
    from validation.analysis.selection.open import find_videos
    from validation.analysis.selection.sources import find_committed_shards
    from validation.cli.results import find_rules, parse_verdicts
    from validation.settings import load_settings

    settings = load_settings()
    source = find_committed_shards(engine, condition.suite or settings.suite, settings)
    found = find_videos(source, find_rules(None, source.suite), parse_verdicts(verdict))
    return found if condition.video_ids is None else sorted(set(found) & set(condition.video_ids))


def _parse_models(given: Sequence[str]) -> dict[str, str | None]:
    """Parse the values of ``--lacking``. Return the revision per model; None for any revision."""
    models = {}
    for each in given:
        model, _, revision = each.partition("=")
        if not model:
            raise BadInput(f"--lacking {each!r} names no model: write MODEL or MODEL=REVISION")
        models[model] = revision or None
    return models


def sweep(json: JsonOption = False) -> None:
    """Requeue the videos of lost workers, evaluate canaries, and delete orphans. Prefect does it every two minutes.

    Only the clock of the database decides: a chunk is taken back when its lease has expired.
    """
    from validation.control.sweep import sweep as run_sweep
    from validation.control.witness import make_video_reader
    from validation.services import open_ledger, open_results, open_source
    from validation.settings import load_settings

    read_video = make_video_reader(open_source, load_settings().source_key)
    report = run_sweep(open_ledger(), open_results(), read_video=read_video)
    if json:
        print_json(report)
        report.raise_if_incomplete()
        return
    for canary in report.evaluated:
        say(f"canary {canary.video_id} of {canary.worker_id} is {canary.outcome}")
    for failure in report.settled:
        found = "confirmed" if failure.is_confirmed else "refuted: its object can be read"
        say(f"the failure of video {failure.video_id}, reported by {failure.owner}, is {found}")
    for chunk in report.swept:
        say(f"chunk {chunk.chunk_id} of {chunk.worker_id} taken back: {chunk.reason}")
    for key in report.unknown_shards:
        say(f"{key} is of a chunk that the ledger does not know: see `vfleet repair --dry-run`")
    for held in report.locked:
        say(f"chunk {held.chunk_id} of {held.worker_id} is locked by a call that does not end")
    say(
        f"{len(report.swept)} chunks, {report.stranded_videos} stranded videos, "
        f"{len(report.stale_workers)} workers flagged, {len(report.orphans)} orphans deleted"
    )
    report.raise_if_incomplete()


def audit(json: JsonOption = False) -> int:
    """Compare every committed shard with its manifest and the ledger: nothing lost, doubled or altered.

    Changes nothing, and may run while the fleet works. Exit 1 if there is a finding.
    """
    from validation.control.audit import audit as run_audit
    from validation.ledger.queries import read_committed_shards
    from validation.services import open_ledger, open_results

    engine, results = open_ledger(), open_results()
    findings = 0
    for finding in run_audit(engine, results):
        print_json({"finding": str(finding)}) if json else say(finding)
        findings += 1
    if not json:
        say(f"{findings} findings in {len(read_committed_shards(engine))} committed shards")
    return ExitCode.FAILED if findings else ExitCode.OK


def repair(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; change nothing.")] = False,
    json: JsonOption = False,
) -> int:
    """Bring ledger and bucket together again, after the ledger was restored from a backup or objects were lost.

    Shards in the bucket that the ledger does not know are recorded again. Videos of shards whose object is missing or
    altered go back to the queue. Reads every shard. No worker may hold a chunk meanwhile: drain the fleet first.

    Example: `vfleet repair --dry-run`
    """
    from validation.control.repair import repair as run_repair
    from validation.services import open_ledger, open_results

    counts = {"restored": 0, "withdrawn": 0, "left": 0}
    for each in run_repair(open_ledger(), open_results(), dry_run=dry_run):
        counts[each.action] += 1
        if json:
            print_json(each)
        else:
            say(f"{each.shard_key}: {each.action}, {each.videos} videos: {each.reason}")
    if not json:
        would = "would be " if dry_run else ""
        say(
            ", ".join(f"{count} shards {would if action != 'left' else ''}{action}" for action, count in counts.items())
        )
    return ExitCode.FAILED if counts["left"] else ExitCode.OK

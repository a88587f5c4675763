"""`vfleet requeue`: back into the queue with what failed, what is doubted, or what a new model has not heard."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from validation.cli import Subparsers
from validation.errors import BadInput

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from validation.ledger.maintenance import Requeue

_CONDITIONS = ("video", "failed", "validated", "language", "verdict", "worker", "suite", "revision", "lacking")


def add_requeue_command(commands: Subparsers) -> None:
    """Add the subcommand. What it needs is imported when it runs."""
    requeuing = commands.add_parser(
        "requeue",
        help="give failed or validated videos a fresh start",
        description="Takes the videos that meet every condition. What they have stands for readers until the same "
        "suite and revision is committed again.",
    )
    requeuing.add_argument("video", nargs="*", help="ids of videos")
    requeuing.add_argument("--all", action="store_true", help="without any other condition: all that are done")
    status = requeuing.add_mutually_exclusive_group()
    status.add_argument("--failed", action="store_true", help="that failed")
    status.add_argument("--validated", action="store_true", help="that were validated")
    requeuing.add_argument("--language", metavar="CODES", help="of these languages, comma-separated, as in the queue")
    requeuing.add_argument("--verdict", metavar="VERDICTS", help="with a segment that the suite's rules judge so")
    requeuing.add_argument("--worker", help="of which this worker wrote something; or a rented machine, by its label")
    requeuing.add_argument("--suite", help="with a result of this suite")
    requeuing.add_argument("--revision", help="with a result of this revision, as `vfleet shards ls` names it")
    requeuing.add_argument(
        "--lacking",
        metavar="MODEL[=REVISION]",
        action="append",
        help="validated, but never by this model (in this revision); only such models are asked then",
    )
    requeuing.add_argument("--dry-run", action="store_true", help="say how many it would be, and change nothing")
    requeuing.set_defaults(command=run_requeue)


def run_requeue(options: argparse.Namespace) -> None:
    from validation.ledger.maintenance import requeue_videos
    from validation.services import open_ledger

    if not options.all and not any(getattr(options, name) for name in _CONDITIONS):
        raise BadInput("requeue what? name videos or a condition, or say --all")
    engine = open_ledger()
    rows = requeue_videos(engine, _read_conditions(options, engine), dry_run=options.dry_run)
    for row in rows:
        print(f"{row.videos:10}  {row.language:12}  {row.status}")
    would = "would go back to" if options.dry_run else "back in"
    print(f"{sum(row.videos for row in rows)} videos {would} the queue")


def _read_conditions(options: argparse.Namespace, engine: "Engine") -> "Requeue":
    from validation.ledger.maintenance import Requeue

    ids = list(options.video) or None
    if options.verdict:
        judged = _find_judged(options, engine)
        ids = judged if ids is None else sorted(set(ids) & set(judged))
    return Requeue(
        video_ids=ids,
        status="validation_failed" if options.failed else "validated" if options.validated else None,
        languages=options.language.split(",") if options.language else None,
        worker_id=options.worker,
        suite=options.suite,
        revision=options.revision,
        lacking=_read_models(options.lacking) if options.lacking else None,
    )


def _find_judged(options: argparse.Namespace, engine: "Engine") -> list[str]:
    """The videos with a segment of such a verdict, by the suite's own rules over its committed shards."""
    from validation.analysis.selection.open import find_videos
    from validation.analysis.selection.sources import find_committed
    from validation.cli.select import find_rules, parse_verdicts
    from validation.settings import load_settings

    settings = load_settings()
    source = find_committed(engine, options.suite or settings.suite, settings)
    return find_videos(source, find_rules(None, source.suite), parse_verdicts(options.verdict))


def _read_models(given: Sequence[str]) -> dict[str, str | None]:
    models = {}
    for each in given:
        model, _, revision = each.partition("=")
        if not model:
            raise BadInput(f"--lacking {each!r}: write MODEL or MODEL=REVISION")
        models[model] = revision or None
    return models

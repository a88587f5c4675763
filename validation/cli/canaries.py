"""`vfleet canaries plant | list | pardon`: videos with known answers, and who got them wrong."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from validation.cli import Subparsers
from validation.errors import BadInput

if TYPE_CHECKING:
    from validation.ledger.canaries import CanaryResult, QuarantinedShard, QuarantinedWorker


def add_canaries_commands(commands: Subparsers) -> None:
    """Add the subcommands. What they need is imported when they run."""
    canaries = commands.add_parser("canaries", help="videos with known answers: who gets them wrong is distrusted")
    verbs = canaries.add_subparsers(required=True)

    planting = verbs.add_parser(
        "plant",
        help="make canaries of clips that you trust, and mix them into the queue",
        description="The suite answers here and now: run it on a machine that you trust, with a login that may seed.",
    )
    planting.add_argument("trusted", type=Path, help="folder with clips and a manifest.json of file, text, language")
    planting.add_argument("--count", type=int, default=100, help="how many (100)")
    planting.add_argument("--seed", type=int, help="make the same canaries of the same queue and clips again")
    planting.set_defaults(command=run_plant)

    listing = verbs.add_parser("list", help="what became of them, who is distrusted, and how to take its work back")
    listing.set_defaults(command=run_list)

    pardoning = verbs.add_parser("pardon", help="hold what was wrong until now against a worker no more")
    pardoning.add_argument("worker", help="a worker's id, or the label of a rented machine")
    pardoning.set_defaults(command=run_pardon)


def run_plant(options: argparse.Namespace) -> None:
    import numpy as np

    from validation.calibration.trusted_clips import load_trusted
    from validation.canaries.generate import find_templates, generate_canaries, plant
    from validation.canaries.probes import make_probes
    from validation.models.suite import batching_policy
    from validation.services import open_ledger
    from validation.settings import load_settings
    from validation.shards.provenance import comparability_key
    from validation.storage.store import open_store
    from validation.worker.chunk.open import open_scorer

    if options.count < 1:
        raise BadInput(f"--count {options.count}: plant one or more")
    settings, engine, draw = load_settings(), open_ledger(), np.random.default_rng(options.seed)
    clips, suite = load_trusted(options.trusted), open_scorer(settings.suite)
    probes = make_probes(suite, clips)
    print(
        f"{len(probes)} segments of {len(clips)} clips have answers that stand firm, by suite {suite.name}", flush=True
    )
    flock = list(generate_canaries(find_templates(engine, probes, options.count, draw), probes, draw))
    source = open_store(settings.source_url, settings)
    planted = plant(
        engine,
        source,
        flock,
        source_key=settings.source_key,
        suite=suite.name,
        models=suite.revisions,
        basis=comparability_key(suite.rules.version, batching_policy(suite.name)),
    )
    print(
        f"{len(planted)} canaries with {sum(video.segment_count or 0 for video in planted)} segments are in the queue"
    )
    if not planted:
        raise BadInput("no id was free: the ids of this queue leave no room between them")


def run_list(_options: argparse.Namespace) -> None:
    from validation.canaries.evaluate import judge_canaries
    from validation.ledger.canaries import read_canary_results, read_quarantined_shards, read_quarantined_workers
    from validation.services import open_ledger, open_results

    engine = open_ledger()
    judge_canaries(engine, open_results())
    _print_results(read_canary_results(engine))
    _print_distrusted(read_quarantined_workers(engine), read_quarantined_shards(engine))


def run_pardon(options: argparse.Namespace) -> None:
    from validation.ledger.canaries import clear_quarantine
    from validation.services import open_ledger

    pardoned = clear_quarantine(open_ledger(), options.worker)
    if not pardoned:
        raise BadInput(f"{options.worker} has no wrong canary that was not pardoned")
    print(f"{pardoned} wrong canaries of {options.worker} are pardoned: it may work again")


def _print_results(results: "Sequence[CanaryResult]") -> None:
    from validation.canaries.evaluate import tally_results

    tally = tally_results(results)
    print(f"{tally.planted} canaries planted, {tally.waiting} not judged yet")
    if tally.workers:
        print(f"{'worker':40} {'right':>6} {'wrong':>6} {'inconclusive':>6}")
    for row in tally.workers:
        print(f"{row.known_as:40} {row.right:6} {row.wrong:6} {row.inconclusive:6}")
    for result in results:
        if result.finding and result.cleared_at is None:
            print(
                f"{result.outcome}: {result.video_id} by {result.instance_label or result.worker_id}: {result.finding}"
            )


def _print_distrusted(distrusted: "Sequence[QuarantinedWorker]", shards: "Sequence[QuarantinedShard]") -> None:
    if any(each.is_excused for each in distrusted):
        print(
            f"{len(distrusted)} machines are wrong, too many to be the machines' fault: no box is quarantined. Look at "
            "what was wrong above; plant anew if the answers are, and pardon"
        )
        return
    for each in distrusted:
        own = [shard for shard in shards if shard.known_as == each.known_as]
        print(f"{each.known_as} is quarantined since {each.since:%d %B, %H:%M}: {each.wrong} of {each.evaluated} wrong")
        for shard in own:
            print(f"  {shard.shard_key}: {shard.videos} videos, {shard.segments} segments")
        if own:
            print(f"  take them back: vfleet requeue --worker {each.known_as} --validated")

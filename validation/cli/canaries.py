"""`vfleet canaries add | list | clear`: queue videos with known answers, and list or clear workers in quarantine."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validation.errors import BadInput
from validation.output import print_json, print_table, say

if TYPE_CHECKING:
    from validation.ledger.canaries import CanaryResult, QuarantinedShard, QuarantinedWorker

PANEL = "Fleet"

canaries_app = typer.Typer(no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    app.add_typer(
        canaries_app,
        name="canaries",
        rich_help_panel=PANEL,
        help="Videos with known answers, which find boxes that compute wrong results.",
    )


@canaries_app.command()
def add(
    trusted: Annotated[Path, typer.Argument(help="Folder of clips with a manifest.json of file, text, language.")],
    count: Annotated[int, typer.Option(min=1, help="How many canaries.")] = 100,
    seed: Annotated[int | None, typer.Option(help="The same seed, queue and clips give the same canaries.")] = None,
) -> None:
    """Make canaries from clips that you trust, and put them into the queue.

    The suite computes the known answers here and now: run it on a machine that you trust, with a login that may seed.

    Example: `vfleet canaries add clips --count 100`
    """
    import numpy as np

    from validation.calibration.trusted_clips import load_trusted_clips
    from validation.canaries.generate import add_to_queue, draw_templates, generate_canaries, make_probes, make_variants
    from validation.models.suites import cascade_name_of
    from validation.services import open_ledger
    from validation.settings import load_settings
    from validation.shards.schema import results_basis
    from validation.storage.store import open_store
    from validation.worker.chunk.open import open_scorer

    settings, engine, rng = load_settings(), open_ledger(), np.random.default_rng(seed)
    clips, suite = load_trusted_clips(trusted), open_scorer(settings.suite)
    variants = make_variants(clips)
    probes = make_probes(suite, variants)
    say(
        f"{len(variants)} segments made of {len(clips)} clips were tried; {len(probes)} have stable answers by suite "
        f"{suite.name}"
    )
    generated = list(generate_canaries(draw_templates(engine, probes, count, rng), probes, rng))
    source = open_store(settings.source_url, settings)
    added = add_to_queue(
        engine,
        source,
        generated,
        source_key=settings.source_key,
        suite=suite.name,
        models=suite.revisions,
        basis=results_basis(suite.rules.version, cascade_name_of(suite.name)),
    )
    segments = sum(video.segment_count or 0 for video in added)
    say(f"{len(added)} of {count} canaries, with {segments} segments, are in the queue")
    if not added:
        raise BadInput("no canary was added: the ids of this queue leave no free id of the same pattern")


@canaries_app.command(name="list")
def list_canaries(
    json: Annotated[
        bool, typer.Option("--json", help="Print results and quarantined workers as one line of strict JSON.")
    ] = False,
) -> None:
    """Evaluate committed canaries, then show all outcomes, the workers in quarantine, and how to requeue their videos.

    The new outcomes are recorded in the ledger, as each sweep does: a wrong one can quarantine a worker.
    """
    from validation.canaries.evaluate import evaluate_canaries
    from validation.ledger.canaries import read_canary_results, read_quarantined_shards, read_quarantined_workers
    from validation.services import open_ledger, open_results

    engine = open_ledger()
    evaluate_canaries(engine, open_results())
    results = read_canary_results(engine)
    workers, shards = read_quarantined_workers(engine), read_quarantined_shards(engine)
    if json:
        print_json({"results": results, "quarantined_workers": workers, "quarantined_shards": shards})
        return
    _print_results(results)
    _print_quarantined(workers, shards)


@canaries_app.command()
def clear(
    worker: Annotated[str, typer.Argument(help="A worker's id, or the label of a rented box.")],
) -> None:
    """End the quarantine of a worker: its wrong canaries until now count no more.

    Example: `vfleet canaries clear home-1`
    """
    from validation.ledger.canaries import clear_quarantine
    from validation.services import open_ledger

    cleared = clear_quarantine(open_ledger(), worker)
    if not cleared:
        raise BadInput(f"worker {worker} has no wrong canary that counts: there is nothing to clear")
    say(f"{cleared} wrong canaries of {worker} are cleared: it may claim again")


def _print_results(results: "Sequence[CanaryResult]") -> None:
    from validation.canaries.evaluate import tally_results

    tally = tally_results(results)
    say(f"{tally.planted} canaries, {tally.waiting} without a result yet")
    print_table(
        ("worker", "right", "wrong", "inconclusive"),
        [(row.known_as, row.right, row.wrong, row.inconclusive) for row in tally.workers],
    )
    for result in results:
        if result.finding and result.cleared_at is None:
            say(f"{result.outcome}: {result.video_id} by {result.instance_label or result.worker_id}: {result.finding}")


def _print_quarantined(workers: "Sequence[QuarantinedWorker]", shards: "Sequence[QuarantinedShard]") -> None:
    if excused := [each.known_as for each in workers if each.is_excused]:
        say(
            f"{len(excused)} workers have wrong canaries, too many for a fault of single boxes. They are not in "
            f"quarantine: {', '.join(excused)}. Look at the findings above; if the known answers are wrong, add new "
            "canaries and clear these workers"
        )
    for each in (each for each in workers if not each.is_excused):
        own = [shard for shard in shards if shard.known_as == each.known_as]
        say(
            f"{each.known_as} is in quarantine since {each.since:%d %B, %H:%M}: "
            f"{each.wrong} of {each.evaluated} canaries are wrong"
        )
        for shard in own:
            say(f"  {shard.shard_key}: {shard.videos} videos, {shard.segments} segments")
        if own:
            say(f"  requeue their videos: vfleet requeue --worker {each.known_as} --validated")

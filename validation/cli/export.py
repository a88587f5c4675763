"""`vfleet export`: write the selected segments as a training set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from validation.cli import JsonOption
from validation.cli.results import (
    PANEL,
    BucketOption,
    RevisionOption,
    RulesOption,
    ShardsOption,
    SuiteOption,
    find_rules,
    find_source,
    load_results_settings,
    parse_verdicts,
)
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import print_json, say

if TYPE_CHECKING:
    from validation.scoring.verdict import Decision


class ExportFormat(StrEnum):
    """File formats of a training set."""

    NEMO = "nemo"
    NEMO_TARRED = "nemo-tarred"
    LHOTSE = "lhotse"
    LHOTSE_SHAR = "lhotse-shar"
    HF = "hf"
    HF_AUDIOFOLDER = "hf-audiofolder"
    WEBDATASET = "webdataset"
    KALDI = "kaldi"


def add_commands(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(export)


def export(
    format_: Annotated[ExportFormat, typer.Argument(metavar="FORMAT", help="The trainer's format.")],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to export to; made if missing.")],
    selection: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Export the rows of this parquet file of `vfleet select`.")
    ] = None,
    rules: RulesOption = None,
    keep: Annotated[str, typer.Option(metavar="VERDICTS", help="Verdicts to export, comma-separated.")] = "accept",
    suite: SuiteOption = None,
    shards: ShardsOption = None,
    bucket: BucketOption = None,
    revision: RevisionOption = None,
    shard_mb: Annotated[int, typer.Option(min=1, metavar="MIB", help="Audio per shard.")] = 256,
    license_: Annotated[str, typer.Option("--license", help="Licence of the data, for the data card.")] = "unknown",
    json: JsonOption = False,
) -> int:
    """Write audio and text of the selected segments in the format of a trainer, with checksums and a data card.

    Segments are selected as by `vfleet select`, and their audio is read from the source store: 16 kHz, mono, 16 bit.
    An export that was interrupted continues with the same command. Exit 1 if the audio of a segment is missing.

    Examples: `vfleet export nemo-tarred train --license cc-by-4.0`,
    `vfleet export hf train --selection kept.parquet`
    """
    from validation.analysis.export.run import ExportPlan, open_export, run_export
    from validation.storage.store import open_store

    chosen = (
        _choose_from_shards(rules, parse_verdicts(keep), suite=suite, shards=shards, bucket=bucket, revision=revision)
        if selection is None
        else _choose_from_file(selection)
    )
    plan = ExportPlan(format=format_.value, shard_bytes=shard_mb << 20, license=license_, **chosen.origin)
    state = open_export(out, plan, chosen.freeze)
    settings = load_results_settings(bucket)
    source = open_store(settings.source_url, settings)
    for _ in run_export(out, state, plan, source, settings.source_key):
        if not json:
            say(f"{state.rows_done:,} of {state.rows:,} segments, {state.seconds() / 3600:,.2f} h in {out}")
    if json:
        print_json({"segments": state.segments, "missing": state.missing, "hours": state.seconds() / 3600})
    elif state.missing:
        say(f"{state.missing:,} selected segments have no audio: {out / 'missing.jsonl'} gives the reasons")
    return ExitCode.FAILED if state.missing else ExitCode.OK


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The segments to export. They are read from the shards or the selection file when ``freeze`` is called."""

    origin: Mapping[str, Any]
    """The fields of the export's plan that describe the source of the segments."""
    freeze: Callable[[Path], int]
    """Writes the list of the segments to a file and returns the number of segments."""


def _choose_from_shards(
    rules: str | None,
    verdicts: "list[Decision]",
    *,
    suite: str | None,
    shards: Path | None,
    bucket: str | None,
    revision: str | None,
) -> _Chosen:
    """Choose the segments of committed shards to which the rules give one of the verdicts."""
    import polars as pl

    from validation.analysis.export.samples import freeze_selection
    from validation.analysis.selection.open import open_segments, scan_errors
    from validation.analysis.selection.verdicts import apply_rules

    source = find_source(suite=suite, shards=shards, bucket=bucket, revision=revision)
    book = find_rules(rules, source.suite)

    def freeze(path: Path) -> int:
        with scan_errors(source.suite):
            segments = apply_rules(open_segments(source), book)
            return freeze_selection(segments.filter(pl.col("verdict").is_in(verdicts)), path)

    return _Chosen(
        {
            "suite": source.suite,
            "rules_version": book.version,
            "rules_sha256": sha256(book.model_dump_json().encode()).hexdigest(),
            "keep": tuple(verdicts),
            "models": {model: made for each in source.revisions for model, made in each.models.items()},
        },
        freeze,
    )


def _choose_from_file(path: Path) -> _Chosen:
    """Choose all segments of a parquet file that `vfleet select` wrote."""
    import polars as pl

    from validation.analysis.export.run import hash_file
    from validation.analysis.export.samples import freeze_selection

    if not path.is_file():
        raise BadInput(f"{path} does not exist: name a parquet file that `vfleet select` wrote")

    def freeze(target: Path) -> int:
        try:
            return freeze_selection(pl.scan_parquet(path), target)
        except pl.exceptions.PolarsError as error:
            raise BadInput(f"{path} is not a selection in parquet: {str(error).splitlines()[0]}") from None

    origin = {
        "suite": "selection", "rules_version": path.name, "rules_sha256": hash_file(path), "keep": (), "models": {},
    }  # fmt: skip
    return _Chosen(origin | {"selection": path.name}, freeze)

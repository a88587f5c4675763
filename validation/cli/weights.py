"""`vfleet weights` and `vfleet check-precision`: lock, check and convert model weights, and test half precision."""

import os
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from validation.cli import JsonOption
from validation.errors import BadInput
from validation.exit_codes import ExitCode
from validation.output import print_json, print_table, say

if TYPE_CHECKING:
    from validation.domain import Utterance
    from validation.models.precision import Answers
    from validation.models.suite import Suite

PANEL = "Set up and check"
AUDIO_SUFFIXES = {".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".webm"}
"""Suffixes of the files that ``check_precision`` reads as audio."""

weights_app = typer.Typer(no_args_is_help=True)


class HalfPrecision(StrEnum):
    """The half precisions that `vfleet check-precision` can compare with float32."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def add_commands(app: typer.Typer) -> None:
    app.add_typer(
        weights_app, name="weights", rich_help_panel=PANEL, help="The model weights of an image: pin and check them."
    )
    app.command(name="check-precision", rich_help_panel=PANEL)(check_precision)


@weights_app.command()
def lock(
    folder: Annotated[Path, typer.Argument(help="The folder that VFLEET_WEIGHTS will name; a folder per model.")],
    output: Annotated[Path | None, typer.Option(help="The lock file; weights.lock in FOLDER by default.")] = None,
) -> None:
    """Write the hash of every weights file to a lock file. Do it once, where the files are known to be good.

    Example: `vfleet weights lock .local/weights --output deploy/image/weights.lock`
    """
    from validation.models.weights_folder import LOCK_NAME, find_commits, hash_weights_folders, write_lock

    hashes, commits = hash_weights_folders(folder), find_commits(folder)
    path = output or folder / LOCK_NAME
    write_lock(path, hashes, commits)
    models = sorted({name.partition("/")[0] for name in hashes})
    named = [f"{model} at {commits.get(model, 'an unknown commit')}" for model in models]
    say(f"{len(hashes)} files of {', '.join(named)} locked in {path}")


@weights_app.command()
def check(
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Also compare front end, graphs and labels with what was published, and score known speech."
        ),
    ] = False,
    json: JsonOption = False,
) -> int:
    """Compare every file below VFLEET_WEIGHTS with the lock, as every start of a worker does.

    Example: `vfleet weights check --deep`
    """
    from validation.models.weights_folder import open_weights_folder, read_folder_catalogue

    for model, entry in read_folder_catalogue().items():
        revision = open_weights_folder(model).revision
        if json:
            print_json({"model": model, "source": entry.source, "revision": revision})
        else:
            say(f"{model} ({entry.source}) is revision {revision}")
    return _print_deep_check(json) if deep else ExitCode.OK


def _print_deep_check(json: bool) -> int:
    """Print every comparison of the deep check. Return exit code 1 if a comparison fails."""
    from validation.models.deep_check import run_deep_check

    checks = list(run_deep_check())
    if json:
        for each in checks:
            print_json(each)
    else:
        rows = [("pass" if each.passed else "FAIL", each.model, each.subject, each.found) for each in checks]
        print_table(("", "model", "comparison", "found"), rows)
    return ExitCode.OK if all(each.passed for each in checks) else ExitCode.FAILED


@weights_app.command()
def consolidate(
    source: Annotated[Path, typer.Argument(help="A download of IndicConformer's repository.")],
    target: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Merge the four hundred files of IndicConformer into the five that suite `indic` loads."""
    from validation.models.conformer.graph import consolidate_repository

    if target.exists():
        raise BadInput(f"{target} exists: name a folder that does not exist yet")
    if not (source / "assets/encoder.onnx").is_file():
        raise BadInput(f"{source} is not a download of IndicConformer: it lacks assets/encoder.onnx")
    consolidate_repository(source, target)
    say(f"{target} holds the files that suite `indic` loads: now run `vfleet weights lock`")


def check_precision(
    audio: Annotated[
        Path, typer.Argument(help="A folder of tars, or of audio files with their transcripts beside them (.txt).")
    ],
    suite: Annotated[str, typer.Option(help="The suite whose models are compared.")] = "indic",
    precision: Annotated[
        HalfPrecision, typer.Option(help="The precision to compare with float32.")
    ] = HalfPrecision.FLOAT16,
    language: Annotated[str | None, typer.Option(metavar="CODE", help="For audio without a label of its own.")] = None,
    json: JsonOption = False,
) -> int:
    """Score speech twice, in single and in half precision, and compare the answers. Exit 1 if a limit is exceeded.

    Example: `vfleet check-precision speech --language hi`
    """
    from validation.models.precision import compare_precisions

    utterances = list(read_speech(audio, language))
    if not utterances:
        raise BadInput(f"{audio} holds no tar and no audio file that can be decoded")
    loaded, fine = score_with_precision("float32", suite, utterances)
    roles, revisions = loaded.roles, loaded.revisions
    del loaded  # the GPU memory may not hold both suites
    half, coarse = score_with_precision(precision.value, suite, utterances)
    unchanged = [model for model in roles.models if half.revisions[model] == revisions[model]]
    if len(unchanged) == len(roles.models):
        raise BadInput(f"no model of suite {suite} computes in half precision: there is nothing to check")
    checks = [each for each in compare_precisions(utterances, fine, coarse, roles) if each.model not in unchanged]
    if json:
        for each in checks:
            print_json(each)
    else:
        seconds = sum(utterance.duration_s for utterance in utterances)
        say(f"{precision.value} against float32 on {len(utterances)} segments, {seconds:.0f} s")
        for model in unchanged:
            say(f"----  {model:10} not in half precision")
        print_table(
            ("", "model", "measure", "found", "limit"),
            [
                ("pass" if each.passed else "FAIL", each.model, each.measure, each.found, f"{each.limit}")
                for each in checks
            ],
        )
    return ExitCode.OK if all(each.passed for each in checks) else ExitCode.FAILED


def score_with_precision(precision: str, name: str, utterances: "Sequence[Utterance]") -> "tuple[Suite, Answers]":
    """Load a suite at a precision, and return the suite and its answers to the utterances.

    The precision is set in ``os.environ``. IndicConformer runs in torch, because its ONNX Runtime engine has only one
    precision.
    """
    from validation.models.suite import load_suite

    os.environ |= {"VFLEET_PRECISION": precision, "VFLEET_CONFORMER_ENGINE": "torch"}
    suite = load_suite(name)
    return suite, suite.score(utterances)


def read_speech(folder: Path, language: str | None) -> "Iterator[Utterance]":
    """Yield the segments of all tars and audio files in a folder, in the order of file names.

    Audio that cannot be decoded is left out, and so is a tar's segment whose language label ISO 639 does not know.
    ``language`` is the language of audio without a label of its own.

    Raises:
        BadInput: the folder does not exist.
        Permanent: a tar is broken; the message has its name.
    """
    from validation.corpus.fetch import fetch_video
    from validation.domain import Video
    from validation.settings import load_settings
    from validation.storage.store import open_store

    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder")
    store = open_store(folder.resolve().as_uri(), load_settings())
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tar":
            decoded = fetch_video(store, path.name, Video(path.stem, language, None))
            yield from filter(None, (segment.utterance_for(()) for segment in decoded.segments))
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield from _read_clip(path, language)


def _read_clip(path: Path, language: str | None) -> "Iterator[Utterance]":
    """Yield the audio file with its transcript; print a message and yield nothing if it cannot be decoded."""
    from validation.corpus.audio import AudioDecodeError, decode_audio
    from validation.domain import Utterance

    transcript = path.with_suffix(".txt")
    text = transcript.read_text(encoding="utf-8").strip() if transcript.is_file() else ""
    try:
        yield Utterance(decode_audio(path.read_bytes()), text, language)
    except AudioDecodeError as error:
        say(f"{path.name} is left out: {error}")

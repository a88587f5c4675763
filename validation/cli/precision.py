"""`vfleet check-precision`: may this suite run in half precision? Asked of real weights, on real speech."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from validation.cli import Subparsers
from validation.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from validation.domain import Utterance
    from validation.models.precision import Answers
    from validation.models.suite import Suite

AUDIO_SUFFIXES = {".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".webm"}


def add_precision_command(commands: Subparsers) -> None:
    checking = commands.add_parser("check-precision", help="compare half precision with single on given speech")
    checking.add_argument("audio", type=Path, help="a folder of tars, or of audio files with transcripts beside (.txt)")
    checking.add_argument("--suite", default="indic", help="whose models (default: indic)")
    checking.add_argument("--precision", default="float16", choices=["float16", "bfloat16"])
    checking.add_argument("--language", default=None, help="what is spoken, where the audio does not say so itself")
    checking.set_defaults(command=check_precision)


def check_precision(options: argparse.Namespace) -> int:
    """Score the same speech twice and print every comparison; 1 if one is beyond its limit."""
    from validation.models.precision import compare_precisions

    asked = list(read_speech(options.audio, options.language))
    if not asked:
        raise BadInput(f"{options.audio} holds no tar and no audio file that can be decoded")
    suite, fine = score_at("float32", options.suite, asked)
    roles, revisions = suite.roles, suite.revisions
    del suite  # a card may not hold both
    halved, coarse = score_at(options.precision, options.suite, asked)
    alike = [model for model in roles.models if halved.revisions[model] == revisions[model]]
    if len(alike) == len(roles.models):
        raise BadInput(f"no model of suite {options.suite} computes in half precision: there is nothing to check")
    checks = [check for check in compare_precisions(asked, fine, coarse, roles) if check.model not in alike]
    print(f"{options.precision} against float32 on {len(asked)} segments, {sum(u.duration_s for u in asked):.0f} s")
    for model in alike:
        print(f"----  {model:10} not in half precision")
    for check in checks:
        verdict = "pass" if check.passed else "FAIL"
        print(f"{verdict}  {check.model:10} {check.measure:24} {check.found:10.4g}  {check.limit}")
    return 0 if all(check.passed for check in checks) else 1


def score_at(precision: str, name: str, asked: "Sequence[Utterance]") -> "tuple[Suite, Answers]":
    """Load a suite at a precision and put everything to it. IndicConformer runs in torch: ONNX Runtime knows one."""
    from validation.models.suite import load_suite

    os.environ |= {"VFLEET_PRECISION": precision, "VFLEET_CONFORMER_ENGINE": "torch"}
    suite = load_suite(name)
    return suite, suite.score(asked)


def read_speech(folder: Path, language: str | None) -> "Iterator[Utterance]":
    """Every segment of a folder's tars and every audio file, in the order of names; undecodable ones are left out.

    Raises:
        BadInput: there is no such folder.
        Permanent: a tar is broken; names it.
    """
    from validation.corpus.fetch import fetch_video
    from validation.domain import Video
    from validation.settings import load_settings
    from validation.storage.store import open_store

    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder")
    store = open_store(folder.resolve().as_uri(), load_settings())
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tar":
            decoded = fetch_video(store, path.name, Video(path.stem, language, None))
            yield from filter(None, (segment.utterance for segment in decoded.segments))
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield from _read_file(path, language)


def _read_file(path: Path, language: str | None) -> "Iterator[Utterance]":
    from validation.corpus.audio import Undecodable, decode_audio
    from validation.domain import Utterance

    transcript = path.with_suffix(".txt")
    text = transcript.read_text(encoding="utf-8").strip() if transcript.is_file() else ""
    try:
        yield Utterance(decode_audio(path.read_bytes()), text, language)
    except Undecodable as error:
        print(f"{path.name} is left out: {error}")

"""Two tests of a suite on this machine: every model answers noise and silence, and the suite recognises known speech.

The probes show a model, driver or GPU that does not work. The clips with known text show weights that load without an
error but are not the right ones. The inference server runs both tests at each start; `vfleet doctor` runs the probes,
and `vfleet weights check --deep` reports what each model made of the clips.

`python -m validation.models.self_test` loads the suite and runs both. The bootstrap of a box runs it as a program: a
driver, GPU or weight file that crashes the program does not end the bootstrap, which can still destroy the instance.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from statistics import median

import numpy as np
import soundfile

from validation.domain import SAMPLE_RATE, Answer, Fault, Scalar, Scored, Seconds, Unscored, Utterance, Waveform
from validation.errors import BadInput, FleetError
from validation.exit_codes import ExitCode, exit_code_of
from validation.models.base import Batch
from validation.models.batching import Allocate, pad_batch
from validation.models.suite import Suite, load_suite
from validation.models.suites import SUITES
from validation.scoring.features import cer
from validation.scoring.text import comparable_text
from validation.settings import load_settings

PROBE_S: Seconds = 1.0
PROBE_LANGUAGE, PROBE_TEXT = "hi", "नमस्ते दुनिया"
"""A language that every ASR model supports, and a transcript that it can tokenize, so that alignment is tested too."""


class SelfTestFailed(BadInput):
    """A model gives no answer on this machine: its GPU, driver or weights must be changed."""

    def __init__(self, model: str, fault: Fault, occasion: str = "in the self-test") -> None:
        self.model, self.fault = model, fault
        super().__init__(f"model {model} fails on this machine {occasion}: {fault}")


def run_self_test(suite: Suite, models: Sequence[str] | None = None) -> None:
    """Score ``PROBE_S`` of noise and of silence with some models, or with all.

    Raises:
        SelfTestFailed: a model does not answer one of them, so the machine or the weights are at fault.
        GpuLost: this process can compute nothing more.
    """
    noise = make_noise(PROBE_S)
    probes = [_make_probe(audio, suite.columns if models is None else models) for audio in (noise, 0 * noise)]
    for model, fault in find_faults(suite.score_batch(pad_batch(probes))):
        raise SelfTestFailed(model, fault)


def make_noise(duration_s: Seconds) -> Waveform:
    """Make faint white noise, the same at each call."""
    return np.random.default_rng(0).normal(0, 0.01, int(duration_s * SAMPLE_RATE)).astype(np.float32)


def make_probe_batch(models: Iterable[str], count: int, duration_s: Seconds, *, allocate: Allocate = np.empty) -> Batch:
    """Make a batch of ``count`` equal segments of noise that each of these models must answer."""
    return pad_batch([_make_probe(make_noise(duration_s), models)] * count, allocate=allocate)


def _make_probe(audio: Waveform, models: Iterable[str]) -> Utterance:
    """Make a segment that requests these models by name, so that no cascade skips one."""
    return Utterance(audio, PROBE_TEXT, PROBE_LANGUAGE, tuple(models))


def find_faults(answers: Sequence[Mapping[str, Answer]]) -> Iterator[tuple[str, Fault]]:
    """List the answers that are faults, by model."""
    for own in answers:
        for model, answer in own.items():
            if isinstance(answer, Unscored):
                yield model, answer.fault


MAX_CER = 0.5
"""The greatest median character error rate. Random weights have 0.9 and more, sound ones 0.3 and less."""


class SpeechNotRecognised(BadInput):
    """The weights load, but the suite does not recognise clear speech: the weights or the precision are wrong."""

    def __init__(self, suite: str, fault: str) -> None:
        super().__init__(
            f"suite {suite} does not recognise clear speech: {fault}: run `vfleet weights check --deep`, "
            "and try VFLEET_PRECISION=float32"
        )


@dataclass(frozen=True, slots=True)
class TranscribedClip:
    """What a suite made of one clip."""

    clip: str
    language: str
    text: str
    recognised: str | None
    """None if the ASR model gave no answer."""
    cer: float
    languages: Mapping[str, str | None]
    """The first choice of each LID model."""


def check_speech(suite: Suite) -> list[TranscribedClip]:
    """Score the clips of a suite.

    Returns:
        What the suite recognised; empty for a suite without an ASR model or without clips.

    Raises:
        SpeechNotRecognised: the median CER exceeds ``MAX_CER``, or no LID model names the language of any clip.
        GpuLost: this process can compute nothing more.
    """
    clips = transcribe_clips(suite)
    if not clips:
        return clips
    if (rate := median(clip.cer for clip in clips)) > MAX_CER:
        texts = "; ".join(f"{clip.recognised!r} for {clip.text!r}" for clip in clips)
        raise SpeechNotRecognised(suite.name, f"{suite.roles.asr_model} has a CER of {rate:.2f}: {texts}")
    if not any(clip.language in clip.languages.values() for clip in clips):
        named = sorted({f"{model} {language}" for clip in clips for model, language in clip.languages.items()})
        raise SpeechNotRecognised(suite.name, f"no LID model names {clips[0].language}: {', '.join(named)}")
    return clips


def transcribe_clips(suite: Suite) -> list[TranscribedClip]:
    """Score the clips of a suite, whatever comes out."""
    spec = SUITES.get(suite.name)
    if spec is None or suite.roles.asr_model is None or not spec.known_clips:
        return []
    utterances = {name: read_clip(name, models=tuple(suite.columns)) for name in spec.known_clips}
    answers = suite.score_batch(pad_batch(list(utterances.values())))
    return [
        _describe(name, utterance, own, suite)
        for (name, utterance), own in zip(utterances.items(), answers, strict=True)
    ]


def read_clip(name: str, models: Sequence[str] | None = None) -> Utterance:
    """Read one clip with its transcript and language; ``models`` are requested by name, so that none is skipped."""
    folder = files("validation") / "local" / "clips"
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entry = next(entry for entry in entries if entry["file"] == f"{name}.flac")
    with as_file(folder / entry["file"]) as path:
        if not path.is_file():
            raise BadInput(f"{path} is missing: install the project or build the image again")
        audio, _ = soundfile.read(path, dtype="float32")
    return Utterance(audio, entry["text"], entry["lang"], None if models is None else tuple(models))


def _describe(name: str, utterance: Utterance, answers: Mapping[str, Answer], suite: Suite) -> TranscribedClip:
    language = utterance.language or ""
    text = _values(answers[suite.roles.asr_model or ""]).get("text")
    recognised = None if text is None else str(text)
    rate = cer(comparable_text(utterance.text, language), comparable_text(recognised or "", language))
    choices = {model: _values(answers[model]).get("language") for model in suite.roles.lid_models}
    return TranscribedClip(
        name,
        language,
        utterance.text,
        recognised,
        1.0 if rate is None else rate,
        {model: None if choice is None else str(choice) for model, choice in choices.items()},
    )


def _values(answer: Answer) -> Mapping[str, Scalar]:
    return answer.values if isinstance(answer, Scored) else {}


def main() -> int:
    """Returns an exit code; the last line on standard error is the reason of a failure."""
    try:
        suite = load_suite(load_settings().suite)
        run_self_test(suite)
        check_speech(suite)
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code_of(error)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())

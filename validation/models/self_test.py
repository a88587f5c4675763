"""Test a suite on this machine: every model must answer noise and silence, and the suite must recognise known speech.

The probes, noise and silence, detect a model, driver or GPU that does not work. The clips with known text detect
weights that load without an error but are wrong. At each start the inference server scores the clips, and noise in its
warm-up; while it serves, it runs the probes on a model that failed on a whole batch. `vfleet doctor` runs the probes,
and `vfleet weights check --deep` reports the recognised text and languages of each clip of the suite `indic`.

`python -m validation.models.self_test` loads the suite and runs both tests. The bootstrap of a box runs this command
as a process of its own. If a driver, GPU or weight file crashes that process, the bootstrap can still destroy the
instance.
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
"""The language and the transcript of the probes. Every ASR model supports the language and can tokenize the transcript,
so the probes test alignment too."""


class SelfTestFailed(BadInput):
    """A model gives no answer on this machine. The GPU, the driver or the weights are faulty.

    Args:
        model: the name of the model.
        fault: the fault of its missing answer.
        occasion: the situation in which the model failed, for the message.
    """

    def __init__(self, model: str, fault: Fault, occasion: str = "in the self-test") -> None:
        self.model, self.fault = model, fault
        super().__init__(f"model {model} fails on this machine {occasion}: {fault}")


def run_self_test(suite: Suite, models: Sequence[str] | None = None) -> None:
    """Score noise and silence, ``PROBE_S`` each, with the models ``models``, or with all models if None.

    Raises:
        SelfTestFailed: a model gives no answer for a probe. The machine or the weights are faulty.
        GpuLost: this process cannot use the GPU any more.
    """
    noise = make_noise(PROBE_S)
    probes = [_make_probe(audio, suite.columns if models is None else models) for audio in (noise, 0 * noise)]
    for model, fault in find_faults(suite.score_batch(pad_batch(probes))):
        raise SelfTestFailed(model, fault)


def make_noise(duration_s: Seconds) -> Waveform:
    """Make faint white noise, the same at each call."""
    return np.random.default_rng(0).normal(0, 0.01, int(duration_s * SAMPLE_RATE)).astype(np.float32)


def make_probe_batch(models: Iterable[str], count: int, duration_s: Seconds, *, allocate: Allocate = np.empty) -> Batch:
    """Make a batch of ``count`` equal segments of noise that request these models by name."""
    return pad_batch([_make_probe(make_noise(duration_s), models)] * count, allocate=allocate)


def _make_probe(audio: Waveform, models: Iterable[str]) -> Utterance:
    """Make an utterance that requests these models by name, so that a cascade skips none of them."""
    return Utterance(audio, PROBE_TEXT, PROBE_LANGUAGE, tuple(models))


def find_faults(answers: Sequence[Mapping[str, Answer]]) -> Iterator[tuple[str, Fault]]:
    """Yield the model name and the fault of each answer without values."""
    for own in answers:
        for model, answer in own.items():
            if isinstance(answer, Unscored):
                yield model, answer.fault


MAX_CER = 0.5
"""The greatest accepted median CER. Random weights have a CER of 0.9 or more, sound weights of 0.3 or less."""


class SpeechNotRecognised(BadInput):
    """The weights load, but the suite does not recognise clear speech: the weights or the precision are wrong."""

    def __init__(self, suite: str, fault: str) -> None:
        super().__init__(
            f"suite {suite} does not recognise clear speech: {fault}: run `vfleet weights check --deep`, "
            "and try VFLEET_PRECISION=float32"
        )


@dataclass(frozen=True, slots=True)
class TranscribedClip:
    """The result of a suite for one clip with known text."""

    clip: str
    """The name of the clip: its file name without the extension."""
    language: str
    text: str
    """The known text."""
    recognised: str | None
    """The recognised text; None if the ASR model gave no answer or abstained."""
    cer: float
    """The CER of the recognised text; 1 if the CER is undefined."""
    languages: Mapping[str, str | None]
    """The likeliest language by model name, for each LID model; None if the model gave no answer or names none."""


def check_speech(suite: Suite) -> list[TranscribedClip]:
    """Check that a suite recognises its clips with known text.

    Returns:
        The result for each clip; empty for a suite without an ASR model or without clips.

    Raises:
        SpeechNotRecognised: the median CER exceeds ``MAX_CER``, or no LID model identifies the language of any clip.
        GpuLost: this process cannot use the GPU any more.
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
    """Score the clips of a suite; return the results unchecked, or [] without an ASR model or without clips."""
    spec = SUITES.get(suite.name)
    if spec is None or suite.roles.asr_model is None or not spec.known_clips:
        return []
    utterances = {name: read_clip(name, models=tuple(suite.columns)) for name in spec.known_clips}
    answers = suite.score_batch(pad_batch(list(utterances.values())))
    return [
        _make_transcribed_clip(name, utterance, own, suite)
        for (name, utterance), own in zip(utterances.items(), answers, strict=True)
    ]


def read_clip(name: str, models: Sequence[str] | None = None) -> Utterance:
    """Read one clip with its transcript and its language.

    Args:
        name: the file name without the extension.
        models: models to request by name, so that a cascade skips none of them; None for a plain request.

    Raises:
        BadInput: the file is missing.
    """
    folder = files("validation") / "local" / "clips"
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    entry = next(entry for entry in entries if entry["file"] == f"{name}.flac")
    with as_file(folder / entry["file"]) as path:
        if not path.is_file():
            raise BadInput(f"{path} is missing: install the project or build the image again")
        audio, _ = soundfile.read(path, dtype="float32")
    return Utterance(audio, entry["text"], entry["lang"], None if models is None else tuple(models))


def _make_transcribed_clip(
    name: str, utterance: Utterance, answers: Mapping[str, Answer], suite: Suite
) -> TranscribedClip:
    """Compare the answers for a clip with the known text."""
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
    """Return the values of an answer; empty if the answer is ``Unscored``."""
    return answer.values if isinstance(answer, Scored) else {}


def main() -> int:
    """Run both tests and return an exit code. After a failure the last line on standard error states the reason."""
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

"""Speech with known text: a suite whose weights load but do not recognise it must not start.

The inference server and the self-test of a box score these clips at each start, and `vfleet weights check --deep`
reports what each model made of them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from statistics import median

import soundfile

from validation.domain import Answer, Scalar, Scored, Utterance
from validation.errors import BadInput
from validation.models.batching import pad_batch
from validation.models.suite import Suite
from validation.models.suites import SUITES
from validation.scoring.features import cer
from validation.scoring.text import comparable_text

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
class HeardClip:
    """What a suite made of one clip."""

    clip: str
    language: str
    text: str
    heard: str | None
    """None if the ASR model gave no answer."""
    cer: float
    languages: Mapping[str, str | None]
    """The first choice of each LID model."""


def check_speech(suite: Suite) -> list[HeardClip]:
    """Score the clips of a suite.

    Returns:
        What was heard; empty for a suite without an ASR model or without clips.

    Raises:
        SpeechNotRecognised: the median CER exceeds ``MAX_CER``, or no LID model names the language of any clip.
        GpuLost: this process can compute nothing more.
    """
    clips = hear_clips(suite)
    if not clips:
        return clips
    if (rate := median(clip.cer for clip in clips)) > MAX_CER:
        heard = "; ".join(f"{clip.heard!r} for {clip.text!r}" for clip in clips)
        raise SpeechNotRecognised(suite.name, f"{suite.roles.asr_model} has a CER of {rate:.2f}: {heard}")
    if not any(clip.language in clip.languages.values() for clip in clips):
        named = sorted({f"{model} {language}" for clip in clips for model, language in clip.languages.items()})
        raise SpeechNotRecognised(suite.name, f"no LID model hears {clips[0].language}: {', '.join(named)}")
    return clips


def hear_clips(suite: Suite) -> list[HeardClip]:
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


def _describe(name: str, utterance: Utterance, answers: Mapping[str, Answer], suite: Suite) -> HeardClip:
    language = utterance.language or ""
    text = _values(answers[suite.roles.asr_model or ""]).get("text")
    heard = None if text is None else str(text)
    rate = cer(comparable_text(utterance.text, language), comparable_text(heard or "", language))
    choices = {model: _values(answers[model]).get("language") for model in suite.roles.lid_models}
    return HeardClip(
        name,
        language,
        utterance.text,
        heard,
        1.0 if rate is None else rate,
        {model: None if choice is None else str(choice) for model, choice in choices.items()},
    )


def _values(answer: Answer) -> Mapping[str, Scalar]:
    return answer.values if isinstance(answer, Scored) else {}

"""Clips of speech, silence and noise, and a function that scores utterances with one model."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from torch import Tensor

from validation.domain import SAMPLE_RATE, Answer, Scalar, Scored, Utterance, Waveform
from validation.models.base import Batch, SegmentModel
from validation.models.batching import pad_batch
from validation.models.upload import DeviceAudio, upload

_UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Clip:
    name: str
    text: str
    language: str
    human: bool
    audio: Waveform

    def utterance(self, *, text: str = _UNCHANGED, language: str | None = _UNCHANGED) -> Utterance:
        """The clip with its own transcript and language, or with other ones."""
        return Utterance(
            self.audio,
            self.text if text == _UNCHANGED else text,
            self.language if language == _UNCHANGED else language,
        )


def read_clips() -> dict[str, Clip]:
    """Read the clips of this project, by file name without suffix."""
    folder = files("validation.local") / "clips"
    found = {}
    for entry in json.loads((folder / "manifest.json").read_text()):
        audio, rate = soundfile.read(str(folder / entry["file"]), dtype="float32")
        assert rate == SAMPLE_RATE
        name = entry["file"].removesuffix(".flac")
        found[name] = Clip(name, entry["text"], entry["lang"], entry["human"], audio)
    return found


def values_of(answer: Answer) -> Mapping[str, Scalar]:
    assert isinstance(answer, Scored), answer
    return answer.values


def ask(model: SegmentModel, *utterances: Utterance) -> list[Mapping[str, Scalar]]:
    """Score utterances with a model as one batch."""
    return [values_of(answer) for answer in model.score(pad_batch(utterances))]


def log_p_of(classify: Callable[[DeviceAudio], Tensor], batch: Batch) -> NDArray[np.float64]:
    """The (B, L) log-probabilities of the labels, by the network of a LID model."""
    return np.log(classify(upload(batch, "cpu")).numpy())


def silence(duration_s: float) -> Waveform:
    return np.zeros(round(duration_s * SAMPLE_RATE), dtype=np.float32)


def white_noise(duration_s: float, *, level: float = 0.1) -> Waveform:
    generator = np.random.default_rng(7)
    return generator.normal(0, level, round(duration_s * SAMPLE_RATE)).astype(np.float32)


def same_values(found: Mapping[str, Scalar], expected: Mapping[str, Scalar]) -> bool:
    """Whether two answers are equal: numbers up to rounding, everything else exactly."""
    assert found.keys() == expected.keys()
    return all(
        found[key] == pytest.approx(value, abs=1e-4) if isinstance(value, float) else found[key] == value
        for key, value in expected.items()
    )

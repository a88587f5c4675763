"""Silero VAD: measure speech and pauses in a segment, in any language."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Answer, Column, Scored, Seconds, Waveform
from validation.models.base import Batch
from validation.models.onnx import create_onnx_session
from validation.models.weights import find_weights

WINDOW_SAMPLES = 512
"""Samples per window, 32 ms. The network computes one probability of speech per window."""
CONTEXT_SAMPLES = 64
"""Samples before a window that the network reads together with the window."""
SPEECH_P = 0.5
"""A window with at least this probability counts as speech. This is upstream's default threshold."""

_STATE_SHAPE = (1, 1, 128)


class SileroVad:
    """Silero VAD v6, exported as one graph for a whole sequence of windows. Segments are scored one by one.

    Each window counts as speech or not by its own probability. Upstream's speech timestamps instead bridge, drop and
    pad windows. So here pauses between words are not speech, and read speech has speech ratios of 0.6 to 0.9.
    """

    name: ClassVar[str] = "silero"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("speech_ratio", "float", "ratio", "Share of the segment that is speech, in windows of 32 ms."),
        Column("speech_s", "float", "seconds", "Seconds of it that are speech."),
        Column("lead_s", "float", "seconds", "Seconds before the first speech; the whole length without speech."),
        Column("tail_s", "float", "seconds", "Seconds after the last speech; the whole length without speech."),
        Column("pause_s", "float", "seconds", "Longest stretch without speech between the first and the last speech."),
    )
    languages: frozenset[str] | None = None

    def __init__(self, *, threads: int) -> None:  # noqa: ARG002 - every model takes it
        weights = find_weights("silero-vad-v6")
        # The recurrent layer processes one window after the other, so a second thread would wait.
        self._session = create_onnx_session(weights.read("silero_vad_v6.onnx"), threads=1)
        self.revision = weights.revision

    def score(self, batch: Batch) -> Sequence[Answer]:
        """Measure the speech in each segment of a batch. Every segment of at least one sample has an answer."""
        return [self._measure(row[:n]) for row, n in zip(batch.waveforms, batch.lengths, strict=True)]

    def _measure(self, audio: Waveform) -> Scored:
        """Measure the speech in one segment."""
        state = np.zeros(_STATE_SHAPE, dtype=np.float32)
        inputs = {"input": cut_windows(audio), "h": state, "c": state}
        (probabilities,) = self._session.run(["speech_probs"], inputs)
        return make_answer(np.ravel(probabilities), len(audio))


def make_answer(speech_p: NDArray[np.float32], samples: int) -> Scored:
    """Make the answer for a segment of ``samples`` samples from the probability of speech in each of its windows."""
    true_samples = np.minimum(WINDOW_SAMPLES, samples - np.arange(len(speech_p)) * WINDOW_SAMPLES)
    is_speech = speech_p >= SPEECH_P
    speech_samples = int(true_samples[is_speech].sum())
    lead_s, tail_s, pause_s = measure_gaps(np.flatnonzero(is_speech), samples / SAMPLE_RATE)
    return Scored(
        {
            "speech_ratio": speech_samples / samples,
            "speech_s": speech_samples / SAMPLE_RATE,
            "lead_s": lead_s,
            "tail_s": tail_s,
            "pause_s": pause_s,
        }
    )


def measure_gaps(speech: NDArray[np.int64], duration_s: Seconds) -> tuple[Seconds, Seconds, Seconds]:
    """Measure the stretches of a segment that are not speech.

    Args:
        speech: the indices of the windows that are speech, in ascending order.
        duration_s: the length of the segment.

    Returns:
        The seconds before the first window of speech, the seconds after the last one, and the seconds of the longest
        stretch without speech between two windows of speech. Without speech the first two values are ``duration_s``,
        and the third is 0.
    """
    if not len(speech):
        return duration_s, duration_s, 0.0
    window_s = WINDOW_SAMPLES / SAMPLE_RATE
    pause_s = float(np.diff(speech).max() - 1) * window_s if len(speech) > 1 else 0.0
    return float(speech[0]) * window_s, max(0.0, duration_s - float(speech[-1] + 1) * window_s), pause_s


def cut_windows(audio: Waveform) -> NDArray[np.float32]:
    """Cut audio into (W, 64 + 512) context and window samples. Silence pads the audio at both ends."""
    count = -(-len(audio) // WINDOW_SAMPLES)
    padded = np.zeros(CONTEXT_SAMPLES + count * WINDOW_SAMPLES, dtype=np.float32)
    padded[CONTEXT_SAMPLES : CONTEXT_SAMPLES + len(audio)] = audio
    spans = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT_SAMPLES + WINDOW_SAMPLES)
    return np.ascontiguousarray(spans[::WINDOW_SAMPLES])

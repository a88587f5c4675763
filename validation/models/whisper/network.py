"""Whisper's encoder and decoder in CTranslate2: arrays and token lists in, arrays and token lists out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Read when the library loads. Its threads otherwise spin while they wait for each other: on two cores with other work
# beside it an answer then takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import ctranslate2
import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Waveform
from validation.models.whisper.tokenizer import WhisperTokenizer

CALL_S = 120
"""Seconds, silence included, that go through the network in one call: memory stays bounded for a segment of an hour."""
_ENCODED_PER_S = 50
_DEFAULT_SUPPRESSED = -1
"""Stands for the tokens that the model's own configuration suppresses: what is no speech, such as music notes."""
_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""Where single precision ends. The logarithm of less would be minus infinity."""


class WhisperNetwork:
    """Whisper-base in single precision on the CPU.

    Deterministic, and an item's answers depend neither on the others of its batch nor on the make of the CPU: they move
    by 1e-5 between kernels. With int8 weights, at half the time, the same clip moved by up to 0.4 nats a token from one
    CPU's kernels to another's, and one text in four changed. Windows of different lengths must not share a batch.
    """

    def __init__(self, folder: Path, tokens: WhisperTokenizer, *, threads: int) -> None:
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="float32", intra_threads=threads
        )
        self._features = FeatureExtractor()
        self._tokens = tokens

    def encode(self, audios: Sequence[Waveform], window_s: int) -> NDArray[np.float32]:
        """Listen to audios of at most ``window_s`` seconds, each followed by silence up to that length.

        Returns:
            (B, 50 * window_s, 512) float32.
        """
        # The published extractor pads features, with a value that silence never has; Whisper was trained on padded
        # audio. It appends a hop of its own unless told otherwise.
        silences = [window_s * SAMPLE_RATE - len(audio) for audio in audios]
        padded = [np.pad(audio, (0, silence)) for audio, silence in zip(audios, silences, strict=True)]
        features = np.stack([self._features(audio, padding=0) for audio in padded]).astype(np.float32)
        return np.concatenate([np.array(self._model.encode(_view(part))) for part in _cut(features, window_s)])

    def detect_languages(self, encoded: NDArray[np.float32]) -> list[Mapping[str, float]]:
        """Give each item the probability of every language that Whisper names."""
        names = self._tokens.language_of_label
        found = [
            item
            for part in _cut(encoded, encoded.shape[1] // _ENCODED_PER_S)
            for item in self._model.detect_language(_view(part))
        ]
        return [{names[label]: p for label, p in item if label in names} for item in found]

    def transcribe(
        self, encoded: NDArray[np.float32], languages: Sequence[str], *, numerals: bool
    ) -> list[tuple[int, ...]]:
        """Write down what is heard, greedily, one language an item. Stops at 224 tokens, as Whisper was trained.

        Args:
            encoded: what ``encode`` returned, (B, ...).
            languages: B codes that Whisper knows.
            numerals: whether numbers may be written in digits.
        """
        suppressed = [_DEFAULT_SUPPRESSED, *(() if numerals else self._tokens.numerals)]
        prompts = [self._tokens.prompt_for(language) for language in languages]
        texts: list[tuple[int, ...]] = []
        for part in _cut(encoded, encoded.shape[1] // _ENCODED_PER_S):
            own = prompts[len(texts) : len(texts) + len(part)]
            found = self._model.generate(_view(part), own, beam_size=1, suppress_tokens=suppressed)
            texts += [tuple(item.sequences_ids[0]) for item in found]
        return texts

    def log_probabilities(
        self, encoded: NDArray[np.float32], language: str, texts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Score given texts by teacher forcing: each token's log-probability after all before it.

        Among text tokens alone: neither the end of the text nor a timestamp competes, so the end is not scored.

        Args:
            encoded: what ``encode`` returned, (B, ...).
            language: the one language of all texts.
            texts: B token lists, none empty.
        """
        start = self._tokens.start_of(language)
        scored: list[NDArray[np.float64]] = []
        for part in _cut(encoded, encoded.shape[1] // _ENCODED_PER_S):
            own = [list(text) for text in texts[len(scored) : len(scored) + len(part)]]
            # The alignment in time that this call also makes is not used, so it may span the whole window.
            found = self._model.align(_view(part), start, own, [part.shape[1] * 2] * len(part))
            scored += [np.log(np.maximum(item.text_token_probs, _LEAST_PROBABILITY)) for item in found]
        return scored


def _cut(items: NDArray[np.float32], window_s: int) -> Iterator[NDArray[np.float32]]:
    """Cut a batch of windows into batches of ``CALL_S``."""
    items_a_call = CALL_S // window_s
    for start in range(0, len(items), items_a_call):
        yield items[start : start + items_a_call]


def _view(array: NDArray[np.float32]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))

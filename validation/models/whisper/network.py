"""Run Whisper's encoder and decoder in CTranslate2 on arrays and token lists."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# CTranslate2 reads this variable when it loads. By default its threads spin while they wait for each other. On two busy
# cores an answer then takes many times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import ctranslate2
import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Waveform
from validation.models.batching import pad_stack
from validation.models.whisper.tokenizer import WhisperTokenizer

MAX_CALL_S = 120
"""The most seconds of audio and padding in one call of the network. It bounds the memory for long segments."""
_ENCODED_PER_S = 50
"""Frames of the encoder per second of audio."""
_DEFAULT_SUPPRESSED = -1
"""The code for all tokens that the model's configuration suppresses, such as music notes, which are not speech."""
_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
"""The lower bound of probabilities, the smallest normal float32. The logarithm of zero would be minus infinity."""


class WhisperNetwork:
    """Whisper-base in single precision on the CPU.

    The results of an item do not depend on the rest of its batch. Between the kernels for different CPUs they differ by
    1e-5 only. With int8 weights, which take half the time, scores of one clip differed by up to 0.4 nats per token
    between the kernels of two CPUs, and one text in four changed. Windows of different lengths must not share a batch.
    """

    def __init__(self, folder: Path, tokenizer: WhisperTokenizer, *, threads: int) -> None:
        self._model: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="float32", intra_threads=threads
        )
        self._features = FeatureExtractor()
        self._tokenizer = tokenizer

    def encode(self, audios: Sequence[Waveform], window_s: int) -> NDArray[np.float32]:
        """Encode waveforms of at most ``window_s`` seconds, each padded with silence to that length.

        Returns:
            (B, 50 * window_s, 512) float32, the output of the encoder.
        """
        # The audio is padded, as in Whisper's training. The published extractor would pad the features, with a value
        # that silence never has. Unless `padding` is 0, it also appends one hop of samples.
        padded, _ = pad_stack(audios, min_samples=window_s * SAMPLE_RATE)
        features = np.stack([self._features(audio, padding=0) for audio in padded]).astype(np.float32)
        return np.concatenate(
            [np.array(self._model.encode(_to_storage_view(part))) for part in _split_calls(features, window_s)]
        )

    def detect_languages(self, encoded: NDArray[np.float32]) -> list[Mapping[str, float]]:
        """Compute, for each item, the probability of every language of Whisper, by language code."""
        names = self._tokenizer.language_of_label
        found = [
            item
            for part in _split_calls(encoded, encoded.shape[1] // _ENCODED_PER_S)
            for item in self._model.detect_language(_to_storage_view(part))
        ]
        return [{names[label]: p for label, p in item if label in names} for item in found]

    def transcribe(
        self, encoded: NDArray[np.float32], languages: Sequence[str], *, numerals: bool
    ) -> list[tuple[int, ...]]:
        """Transcribe each item greedily in its own language; return the token ids of each text.

        A text ends after 224 tokens at the latest, as in Whisper's training.

        Args:
            encoded: the result of ``encode``, (B, ...).
            languages: B codes that Whisper knows.
            numerals: whether Whisper may write digits.
        """
        suppressed = [_DEFAULT_SUPPRESSED, *(() if numerals else self._tokenizer.numerals)]
        prompts = [self._tokenizer.prompt_for(language) for language in languages]
        texts: list[tuple[int, ...]] = []
        for part in _split_calls(encoded, encoded.shape[1] // _ENCODED_PER_S):
            own = prompts[len(texts) : len(texts) + len(part)]
            found = self._model.generate(_to_storage_view(part), own, beam_size=1, suppress_tokens=suppressed)
            texts += [tuple(item.sequences_ids[0]) for item in found]
        return texts

    def log_probabilities(
        self, encoded: NDArray[np.float32], language: str, texts: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float64]]:
        """Compute the log-probability of each token of given texts, given the tokens before it (teacher forcing).

        The probabilities are over text tokens only, without timestamps and the end of the text. So the end of a text is
        not scored.

        Args:
            encoded: the result of ``encode``, (B, ...).
            language: the one language of all texts.
            texts: B token lists, none empty.

        Returns:
            B arrays with one log-probability per token, in nats.
        """
        start = self._tokenizer.start_of(language)
        scored: list[NDArray[np.float64]] = []
        for part in _split_calls(encoded, encoded.shape[1] // _ENCODED_PER_S):
            own = [list(text) for text in texts[len(scored) : len(scored) + len(part)]]
            # The alignment in time that this call also computes is not used, so it may span the whole window.
            found = self._model.align(_to_storage_view(part), start, own, [part.shape[1] * 2] * len(part))
            scored += [np.log(np.maximum(item.text_token_probs, _MIN_PROBABILITY)) for item in found]
        return scored


def _split_calls(items: NDArray[np.float32], window_s: int) -> Iterator[NDArray[np.float32]]:
    """Split a batch of windows into batches of at most ``MAX_CALL_S`` seconds."""
    items_per_call = MAX_CALL_S // window_s
    for start in range(0, len(items), items_per_call):
        yield items[start : start + items_per_call]


def _to_storage_view(array: NDArray[np.float32]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))

"""Group segments into batches, pad batches, limit the size of batches, and bisect batches that fail.

Segments are grouped longest first, within a budget of padded seconds. The budget shrinks when GPU memory runs out. A
batch on which a model fails is bisected, so that one bad segment leaves no other segment without an answer.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from validation.domain import SAMPLE_RATE, Answer, Fault, Seconds, Unscored, Utterance, Waveform
from validation.files import write_atomically
from validation.hardware.gpu import GpuLost, GpuOutOfMemory, convert_gpu_errors
from validation.models.base import Answering, Batch, LaunchableModel, SegmentModel
from validation.models.weights import default_weights_cache

log = logging.getLogger(__name__)

Allocate: TypeAlias = Callable[[tuple[int, int], type[np.float32]], NDArray[np.float32]]
"""A function that allocates a float32 array of a given shape, as ``np.empty`` does."""

ATTENTION_QUADRATIC_S = 161.0
"""The length, in seconds, at which the quadratic cost of attention equals the linear cost of the rest of a large speech
encoder. MMS-LID needs 100.5 d + 0.623 d^2 GFLOP for d seconds."""


@dataclass(frozen=True, slots=True)
class PaddingStats:
    """Seconds of audio in batches: without padding (``real_s``) and with padding (``padded_s``)."""

    real_s: Seconds = 0.0
    padded_s: Seconds = 0.0

    def __add__(self, other: "PaddingStats") -> "PaddingStats":
        return PaddingStats(self.real_s + other.real_s, self.padded_s + other.padded_s)


# --- Grouping -------------------------------------------------------------------------------------------------


def padded_cost_s(duration_s: Seconds) -> Seconds:
    """Compute what one item of this padded length costs in a batch: the length plus a quadratic term, in seconds.

    The quadratic term stands for attention (``ATTENTION_QUADRATIC_S``). The batch budget counts this cost.
    """
    return duration_s + duration_s**2 / ATTENTION_QUADRATIC_S


def batch_cost_s(batch: Batch, *, min_padded_s: Seconds = 0.0) -> Seconds:
    """Compute the cost of a batch, in padded seconds: the number of items times the cost of the longest item.

    ``plan_batches`` documents ``min_padded_s``.
    """
    return len(batch) * padded_cost_s(max(batch.waveforms.shape[1] / SAMPLE_RATE, min_padded_s))


def max_batch_size(longest_s: Seconds, budget_s: Seconds, *, min_padded_s: Seconds = 0.0) -> int:
    """Compute how many items fit in a batch whose longest item has the length ``longest_s``; at least one.

    ``plan_batches`` documents ``budget_s`` and ``min_padded_s``.
    """
    return max(1, int(budget_s // padded_cost_s(max(longest_s, min_padded_s))))


def plan_batches(durations_s: Sequence[Seconds], budget_s: Seconds, *, min_padded_s: Seconds = 0.0) -> list[list[int]]:
    """Group items of similar length into batches, the longest items first.

    If the longest items do not fit in memory, the first batch already shows it. A batch holds as many items as the
    budget allows. Each item costs as much as the longest item of its batch. An item that exceeds the budget is a batch
    of its own.

    Args:
        durations_s: the length of each item.
        budget_s: the greatest cost of a batch: ``len(batch) * padded_cost_s(longest item of the batch)``.
        min_padded_s: the length to which the models pad shorter items. A shorter item costs as much as this length.

    Returns:
        One list per batch of indices into ``durations_s``; each index occurs once. Items of equal length keep their
        order.
    """
    longest_first = sorted(range(len(durations_s)), key=lambda item: -durations_s[item])
    batches, start = [], 0
    while start < len(longest_first):
        size = max_batch_size(durations_s[longest_first[start]], budget_s, min_padded_s=min_padded_s)
        batches.append(longest_first[start : start + size])
        start += size
    return batches


def measure_padding(durations_s: Sequence[Seconds]) -> PaddingStats:
    """Compute the seconds of one batch of items of these lengths, without and with padding."""
    return PaddingStats(sum(durations_s), len(durations_s) * max(durations_s, default=0.0))


def true_audio_s(batch: Batch) -> Seconds:
    """Compute the seconds of audio in a batch, without padding."""
    return float(batch.lengths.sum()) / SAMPLE_RATE


# --- Padding --------------------------------------------------------------------------------------------------


def pad_stack(
    waveforms: Sequence[Waveform], *, min_samples: int = 0, allocate: Allocate = np.empty
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Stack waveforms into one array, zero-padded on the right.

    Args:
        waveforms: B mono waveforms.
        min_samples: the minimum T of the result.
        allocate: a function that allocates the array, initialised or not. If a GPU reads the array, the function is
            ``allocate_pinned_memory``.

    Returns:
        (B, T) float32, where T is the longest length but at least ``min_samples``, and (B,) int64 lengths in samples.
    """
    lengths = np.array([len(waveform) for waveform in waveforms], dtype=np.int64)
    stacked = allocate((len(waveforms), int(lengths.max(initial=min_samples))), np.float32)
    for row, waveform in zip(stacked, waveforms, strict=True):
        row[: len(waveform)] = waveform
        row[len(waveform) :] = 0.0
    return stacked, lengths


def split_evenly(audio: Waveform, max_s: Seconds) -> list[Waveform]:
    """Split audio into the fewest pieces of equal length that are not longer than ``max_s``.

    If the samples do not divide evenly, the first pieces are one sample longer.
    """
    return np.array_split(audio, -(-len(audio) // round(max_s * SAMPLE_RATE)))


def pad_batch(utterances: Sequence[Utterance], *, allocate: Allocate = np.empty) -> Batch:
    """Pad utterances into one batch. ``pad_stack`` documents ``allocate``."""
    waveforms, lengths = pad_stack([utterance.audio for utterance in utterances], allocate=allocate)
    texts, languages = [u.text for u in utterances], [u.language for u in utterances]
    return Batch(waveforms, lengths, texts, languages, requested_models=[u.requested_models for u in utterances])


def take_rows(batch: Batch, rows: Sequence[int]) -> Batch:
    """Make a batch of some segments of another batch, padded only to the longest of these segments.

    ``rows`` are indices in ascending order. If they are all indices of the batch, the batch itself is returned.
    """
    if len(rows) == len(batch):
        return batch
    lengths = batch.lengths[rows]
    waveforms = batch.waveforms[rows, : int(lengths.max(initial=0))]
    texts, languages = [batch.texts[row] for row in rows], [batch.languages[row] for row in rows]
    requested = [batch.requested_models[row] for row in rows]
    return Batch(waveforms, lengths, texts, languages, requested_models=requested)


# --- Budget ---------------------------------------------------------------------------------------------------


class BatchBudget:
    """The batch budget: the greatest ``batch_cost_s`` that a batch may have, in padded seconds. It never grows.

    Args:
        start_s: the budget at the start, unless the file holds a smaller one.
        path: the file that keeps the budget for later processes of this machine; None keeps the budget in memory only.
            Delete the file to start again from ``start_s``.
    """

    def __init__(self, start_s: Seconds, *, path: Path | None = None) -> None:
        self._path = path
        self.seconds = min(start_s, _read_budget(path) or start_s)
        self.overruns = 0
        """How often a batch, or a part of one, was split in this process because it did not fit in GPU memory."""

    def shrink_after_oom(self, cost_s: Seconds) -> None:
        """Lower the budget to half the cost ``cost_s`` of a batch that did not fit in GPU memory; save the budget.

        A budget that is lower already stays unchanged.
        """
        self.overruns += 1
        if cost_s / 2 < self.seconds:
            log.warning(
                "GPU out of memory: the batch budget shrinks from %.0f to %.0f padded seconds", self.seconds, cost_s / 2
            )
            self.seconds = cost_s / 2
            _write_budget(self._path, self.seconds)


def budget_path(suite: str, revisions: Mapping[str, str], gpu: str | None) -> Path:
    """Locate the file that keeps a suite's budget. Each combination of suite, revisions and GPU has a file of its own.

    Args:
        suite: the name of the suite.
        revisions: the revision of each model, by model name.
        gpu: the name of the GPU; None without a GPU.
    """
    key = hashlib.sha256(json.dumps([sorted(revisions.items()), gpu]).encode()).hexdigest()[:12]
    return default_weights_cache().with_name("budgets") / f"{suite}-{key}.json"


def _read_budget(path: Path | None) -> Seconds | None:
    """Read a saved budget in padded seconds; return None without a path, without a file, or for another file."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # no file, or not a budget file
        return float(json.loads(path.read_text(encoding="utf-8"))["budget_s"]) if path else None
    return None


def _write_budget(path: Path | None, seconds: Seconds) -> None:
    """Save a budget in padded seconds. Log an error of the disk; do nothing without a path."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"budget_s": seconds}))
    except OSError as error:
        log.warning("the batch budget of %.0f s could not be saved: %s", seconds, error)


# --- Bisection ------------------------------------------------------------------------------------------------


def launch_model(model: SegmentModel, batch: Batch) -> Answering:
    """Queue the work of a model on a batch; return the function that waits for the work and returns the answers.

    If the launch fails, the returned function raises the error, so that ``Bisection`` handles it. A model that cannot
    queue its work computes when the function is called.

    Raises:
        GpuLost: this process cannot use the GPU any more.
    """
    if not isinstance(model, LaunchableModel):
        return lambda: model.score(batch)
    try:
        return convert_gpu_errors(lambda: model.launch(batch))
    except GpuLost:
        raise
    except Exception as error:  # noqa: BLE001 - see ``Bisection``
        # Without its traceback, which would keep the tensors of the failed launch in memory.
        return _raiser(error.with_traceback(None))


@dataclass(frozen=True, slots=True)
class Bisection:
    """A way to answer a launched batch: where the model fails, the batch is halved until each failing item is alone.

    So only the failing items have no answer. One failing item among B items costs about ``2 log2 B`` further calls, and
    does not change the answers of the other items. A batch that does not fit in GPU memory is tried once more, because
    the first failure has emptied torch's cache. Then it is split until the parts fit.
    """

    model: SegmentModel
    on_oom: Callable[[Batch], None]
    """A function that is called with every batch that is split because it does not fit in GPU memory."""
    launching: AbstractContextManager[object] = field(default_factory=nullcontext)
    """A lock that is held while a batch or a half is launched again, because only one thread may launch at a time."""

    def answer(self, batch: Batch, answering: Answering) -> list[Answer]:
        """Return one answer per item of a batch, in order. ``answering`` is what ``launch_model`` returned for it.

        An item that fails although it is alone in its batch is ``Unscored``, with the fault ``out_of_memory`` if it
        does not fit in GPU memory, else ``model_failed``.

        Raises:
            GpuLost: this process cannot use the GPU any more. No item is the cause.
        """
        return self._answer(batch, answering, tries=2)

    def _answer(self, batch: Batch, answering: Answering, *, tries: int = 1) -> list[Answer]:
        """Answer a batch or a part of it; a batch that does not fit in GPU memory is tried ``tries`` times in all."""
        try:
            return _call(answering, len(batch))
        except GpuLost:
            raise
        except GpuOutOfMemory as error:
            fault = Fault("out_of_memory", str(error))
        except Exception as error:  # noqa: BLE001 - any error of a model becomes the fault of the segments that cause it
            fault = Fault("model_failed", f"{type(error).__name__}: {error}")
        if fault.kind == "out_of_memory" and tries > 1:
            return self._answer(batch, self._launch(batch), tries=tries - 1)
        if len(batch) == 1:
            return [Unscored(fault)]
        if fault.kind == "out_of_memory":
            self.on_oom(batch)
        middle = len(batch) // 2
        halves = take_rows(batch, range(middle)), take_rows(batch, range(middle, len(batch)))
        return [answer for half in halves for answer in self._answer(half, self._launch(half))]

    def _launch(self, batch: Batch) -> Answering:
        """Launch the model as ``launch_model`` does, while the lock is held."""
        with self.launching:
            return launch_model(self.model, batch)


def _call(answering: Answering, count: int) -> list[Answer]:
    """Return the ``count`` answers of ``answering``; raise as ``convert_gpu_errors``.

    Raises:
        ValueError: the number of answers is not ``count``.
    """
    answers = convert_gpu_errors(lambda: list(answering()))
    if len(answers) != count:
        raise ValueError(f"{len(answers)} answers to {count} segments")
    return answers


def _raiser(error: Exception) -> Answering:
    """Return a function that raises the error."""

    def fail() -> list[Answer]:
        raise error

    return fail


def too_short_fault(samples: int, min_samples: int) -> Fault:
    """Make the fault of a segment that is shorter than a model's minimum."""
    return Fault("too_short", f"{samples} samples; the model needs {min_samples}")

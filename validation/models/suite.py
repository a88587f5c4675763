"""Load a suite and score utterances in batches with its models."""

import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from validation.domain import (
    MIN_SEGMENT_S,
    SAMPLE_RATE,
    Answer,
    Column,
    ColumnType,
    Fault,
    Seconds,
    Unscored,
    Utterance,
    Waveform,
)
from validation.errors import BadInput
from validation.hardware.gpu import read_gpus
from validation.models.base import Answering, Batch, LaunchableModel, SegmentModel
from validation.models.batching import (
    BatchBudget,
    Bisection,
    PaddingStats,
    batch_cost_s,
    budget_path,
    launch_model,
    measure_padding,
    pad_batch,
    plan_batches,
    take_rows,
    true_audio_s,
)
from validation.models.scorer import SyncScorerMixin
from validation.models.suites import SKIPPED, SUITES, Cascade, initial_budget_s
from validation.scoring.rules_io import check_columns, load_rules
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles
from validation.scoring.verdict import Rules

if TYPE_CHECKING:
    from validation.hardware.streams import Mark


@dataclass(slots=True)
class ModelStats:
    """Counts and times of one model since the last ``Suite.reset_stats``."""

    segments: int = 0
    """The number of segments that the model was given."""
    faults: int = 0
    """The number of those segments that the model did not score."""
    audio_s: Seconds = 0.0
    """Seconds of audio in those segments, without padding."""
    wall_s: Seconds = 0.0
    """Time that the host spent on the model: queueing its work, waiting for it and making answers."""
    cpu_s: Seconds = 0.0
    """CPU time of the whole process in ``wall_s``. If other threads work too, this is an upper bound."""


class Suite(SyncScorerMixin):
    """A named, ordered set of models that score the same utterances. Several threads may share a suite."""

    def __init__(
        self,
        name: str,
        models: Sequence[SegmentModel],
        *,
        roles: SuiteRoles,
        rules: Rules,
        budget_s: Seconds,
        min_padded_s: Seconds,
        budget_path: Path | None = None,
        cascade: Cascade | None = None,
        device: str = "cpu",
    ) -> None:
        self.name, self.roles, self.rules = name, roles, rules
        self.revisions: Mapping[str, str] = {model.name: model.revision for model in models}
        self.columns: Mapping[str, Sequence[Column]] = {model.name: model.columns for model in models}
        self.budget, self.min_padded_s = BatchBudget(budget_s, path=budget_path), min_padded_s
        self._models, self._cascade, self.device = tuple(models), cascade, device
        self._skippable = next((model for model in models if cascade and model.name == cascade.skipped_model), None)
        self._pool = ThreadPoolExecutor(len(models), "answer") if device == "cuda" else None
        self._stats_lock = threading.Lock()
        self._turns = threading.Lock()  # held by ``score_batch``, so that callers take turns
        self._launching = threading.Lock()  # held while a model is launched; models that answer may launch again
        self.reset_stats()

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Score utterances, each with the models that it requests.

        An answer depends only on its own utterance. The answer is ``Unscored``, and no error is raised, for audio that
        no model can score (``too_short``, ``not_finite``), for audio that a model refuses or on which it fails
        (``model_failed``, ``out_of_memory``), and for a model that the cascade skips (``not_asked``).

        Returns:
            For each utterance, in input order, one answer per requested model, by the model's name. Audio that no model
            can score has an answer of every model.

        Raises:
            GpuLost: this process cannot use the GPU any more.
        """
        faults = [find_audio_fault(utterance.audio) for utterance in utterances]
        answers: list[dict[str, Answer]] = [
            dict.fromkeys(self.columns, Unscored(fault)) if fault else {} for fault in faults
        ]
        scorable = [row for row, fault in enumerate(faults) if fault is None]
        durations_s = [utterances[row].duration_s for row in scorable]
        for batch in plan_batches(durations_s, self.budget.seconds, min_padded_s=self.min_padded_s):
            rows = [scorable[item] for item in batch]
            for row, answer in zip(rows, self.score_batch(pad_batch([utterances[row] for row in rows])), strict=True):
                answers[row] = answer
        return answers

    def score_batch(self, batch: Batch) -> list[dict[str, Answer]]:
        """Score one batch of utterances for which ``find_audio_fault`` found no fault.

        The caller keeps batches within ``budget``. If GPU memory runs out, the budget shrinks, and the batch is split
        and still answered.

        Returns:
            For each item, in order, one answer per requested model, by the model's name.

        Raises:
            GpuLost: this process cannot use the GPU any more.
        """
        with self._turns:
            return self.answer(self.launch(batch))

    def launch(self, batch: Batch) -> "LaunchedBatch":
        """Queue the work of the models on one batch; ``answer`` waits for it and returns what ``score_batch`` returns.

        While a thread calls ``answer``, another thread may launch the next batch. Models that cannot queue their work
        compute in ``answer``. The model that a cascade may skip is launched there too, because the cascade reads the
        answers of the other models.

        Raises:
            GpuLost: this process cannot use the GPU any more.
        """
        with self._launching:
            self.padding += measure_padding((batch.lengths / SAMPLE_RATE).tolist())
            launched = [self._launch_model(model, batch) for model in self._models if model is not self._skippable]
            return LaunchedBatch(batch, launched, self._mark())

    def answer(self, launched: "LaunchedBatch") -> list[dict[str, Answer]]:
        """Wait for the work of a launched batch, and return its answers as ``score_batch`` does.

        On a GPU each model answers in a thread of its own: some compute on the CPU while others wait for the GPU.

        Raises:
            GpuLost: this process cannot use the GPU any more.
        """
        batch, answers = launched.batch, [dict[str, Answer]() for _ in range(len(launched.batch))]
        answered = self._pool.map(self._answer, launched.models) if self._pool else map(self._answer, launched.models)
        for model, own in zip(launched.models, answered, strict=True):
            _enter(answers, model, own)
        if self._cascade and self._skippable:
            confident = self._cascade.find_skipped_rows(batch, answers)
            for row in confident:
                answers[row][self._skippable.name] = SKIPPED
            with self._launching:
                model = self._launch_model(self._skippable, batch, confident)
            _enter(answers, model, self._answer(model))
        return [{name: own[name] for name in self.columns if name in own} for own in answers]

    def reset_stats(self) -> None:
        """Reset ``stats`` (counts and times per model) and ``padding`` (seconds of audio in batches) to zero."""
        self.stats: Mapping[str, ModelStats] = {model.name: ModelStats() for model in self._models}
        self.padding = PaddingStats()

    def _mark(self) -> "Mark | None":
        """Return a mark behind the work that is queued so far; None on a CPU, where no work is queued."""
        if self.device != "cuda":
            return None
        from validation.hardware.streams import Mark  # noqa: PLC0415 - torch, which the suite `local` lacks

        return Mark("cuda")

    def _launch_model(self, model: SegmentModel, batch: Batch, without: Collection[int] = ()) -> "_Launched":
        """Launch a model on the rows of a batch that request it, except the rows ``without``."""
        rows = [row for row in batch.rows_for(model.name) if row not in without]
        own = take_rows(batch, rows)
        with self._measure(model.name):
            return _Launched(model, rows, own, launch_model(model, own) if rows else list)

    def _answer(self, launched: "_Launched") -> list[Answer]:
        """Return a model's answer for each of its rows, and add the rows to the model's stats."""
        if not launched.rows:
            return []
        stats = self.stats[launched.model.name]
        bisection = Bisection(launched.model, self._record_oom, self._launching)
        with self._measure(launched.model.name):
            answers = bisection.answer(launched.batch, launched.answering)
        stats.audio_s += true_audio_s(launched.batch)
        stats.segments += len(answers)
        stats.faults += sum(isinstance(answer, Unscored) for answer in answers)
        return answers

    @contextmanager
    def _measure(self, model: str) -> Iterator[None]:
        """Add the wall time and the CPU time of this context to a model's stats."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        yield
        with self._stats_lock:  # the next batch may be launched meanwhile
            self.stats[model].wall_s += time.perf_counter() - wall_s
            self.stats[model].cpu_s += time.process_time() - cpu_s

    def _record_oom(self, batch: Batch) -> None:
        """Shrink the budget after a batch that did not fit in GPU memory."""
        self.budget.shrink_after_oom(batch_cost_s(batch, min_padded_s=self.min_padded_s))


@dataclass(frozen=True, slots=True)
class _Launched:
    """A model that ``launch_model`` has launched on some rows of a batch."""

    model: SegmentModel
    rows: Sequence[int]
    """Indices into the whole batch; empty if no segment needs the model, which then was not launched."""
    batch: Batch
    """The segments of these rows."""
    answering: Answering
    """What ``launch_model`` returned."""


@dataclass(frozen=True, slots=True)
class LaunchedBatch:
    """A batch on which the models are launched; ``Suite.answer`` waits for them."""

    batch: Batch
    models: Sequence[_Launched]
    _mark: "Mark | None"

    def wait_for_device(self) -> None:
        """Wait until the work that ``Suite.launch`` queued on a GPU is done. Return at once on a CPU."""
        if self._mark is not None:
            self._mark.wait()


def _enter(answers: Sequence[dict[str, Answer]], launched: _Launched, own: Sequence[Answer]) -> None:
    """Put a model's answers ``own``, one for each of its rows, into ``answers``, which has an item per segment."""
    for row, answer in zip(launched.rows, own, strict=True):
        answers[row][launched.model.name] = answer


def find_audio_fault(audio: Waveform) -> Fault | None:
    """Return the fault because of which no model can score audio; None if models can score the audio."""
    duration_s = len(audio) / SAMPLE_RATE
    if duration_s < MIN_SEGMENT_S:
        return Fault("too_short", f"{duration_s:.3f} s of audio; {MIN_SEGMENT_S} s are needed")
    if not np.isfinite(audio).all():
        return Fault("not_finite", "the audio holds NaN or infinity")
    return None


def load_suite(name: str, *, threads: int | None = None) -> Suite:
    """Load a suite's models and rules.

    Args:
        name: a key of ``SUITES``.
        threads: the number of CPU threads of each model; None uses all cores that this process may use.

    Raises:
        BadInput: there is no such suite, the packages of its extra are not installed, or a setting of the models cannot
            be met here, such as VFLEET_DEVICE=cuda without a GPU.
        WeightsRefused: a weight file is missing or altered.
        BadRules: the rules read columns that no model of the suite has.
    """
    spec = SUITES.get(name)
    if spec is None:
        raise BadInput(f"no suite is called {name!r}; known are {', '.join(sorted(SUITES))}")
    rules = load_rules(spec.rules)
    models = [_load_model(path, spec.extra, threads or count_cores()) for path in spec.models.values()]
    check_columns(rules, _rule_columns(models))
    gpu = next(iter(read_gpus()), None)
    return Suite(
        name,
        models,
        roles=SuiteRoles(
            tuple(spec.models),
            spec.asr_model,
            spec.lid_models,
            tuple(sorted(frozenset().union(*(model.languages or () for model in models)))),
        ),
        rules=rules,
        budget_s=initial_budget_s(spec, gpu.memory_gib if gpu else None),
        min_padded_s=spec.min_padded_s,
        budget_path=budget_path(name, {model.name: model.revision for model in models}, gpu.name if gpu else None),
        cascade=spec.cascade,
        device=next((model.device for model in models if isinstance(model, LaunchableModel)), "cpu"),
    )


def count_cores() -> int:
    """Count the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_model(path: str, extra: str, threads: int) -> SegmentModel:
    """Load a model by its ``module:callable``; raise ``BadInput`` if a package of its extra is not installed."""
    module, _, name = path.partition(":")
    try:
        model: SegmentModel = getattr(import_module(module), name)(threads=threads)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"{module} needs {error.name}, which is not installed: pip install 'validation-fleet[{extra}]'"
        ) from None
    return model


def _rule_columns(models: Sequence[SegmentModel]) -> dict[str, ColumnType]:
    """Map the name of every signal that a rule may read to the type of the signal."""
    own = {f"{model.name}_{column.name}": column.type for model in models for column in model.columns}
    texts = ["fault", "language", *(f"{model.name}_fault" for model in models)]
    return {column.name: column.type for column in DERIVED_SIGNALS} | own | dict.fromkeys(texts, "str")

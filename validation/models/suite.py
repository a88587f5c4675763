"""Suites: which models answer together, and how a crowd of utterances is put to them."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

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
from validation.models.base import Batch, SegmentModel
from validation.models.batching import (
    PaddingStats,
    batch_cost_s,
    measure_fill,
    pad_batch,
    plan_batches,
    take_rows,
    true_audio_s,
)
from validation.models.bisect import score_with_bisection
from validation.models.budget import Budget, budget_file
from validation.models.cascade import SKIPPED, Cascade
from validation.models.scorer import SyncScorerMixin
from validation.scoring.rules_file import check_columns, load_rules
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles
from validation.scoring.verdict import Rules


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """What a suite is made of."""

    models: Mapping[str, str]
    """``module:callable`` that loads each model, by its name, in the order of their columns."""
    transcriber: str | None
    judges: tuple[str, ...]
    rules: str
    budget_s: Seconds
    """Padded seconds a batch, with attention's share: see ``plan_batches``."""
    min_padded_s: Seconds
    """The shortest that a segment becomes inside the models: how many short ones a batch may hold."""
    extra: str
    """The extra of this distribution that brings what the models import."""
    card_s_per_gib: float | None = None
    """On a card, the budget that it starts with instead, a GiB of its memory; at most ``CARD_BUDGET_S``."""
    cascade: Cascade | None = None
    """Spares a judge where others are sure; None asks everybody about everything."""


CARD_BUDGET_S: Seconds = 640.0
"""Beyond it padding grows, and the fastest cards compute no faster."""

_INDIC = SuiteSpec(
    models={
        "conformer": "validation.models.conformer.model:IndicConformer",
        "mms": "validation.models.mms_lid:MmsLid",
        "voxlingua": "validation.models.voxlingua:VoxLingua107",
        "dnsmos": "validation.models.dnsmos:place_dnsmos",
    },
    transcriber="conformer",
    judges=("conformer", "mms", "voxlingua"),
    rules="indic-1",
    # On a CPU, which gains nothing from more: of 5 to 80 s, 10 and 20 took the least (a tenth less than 40).
    budget_s=20.0,
    min_padded_s=0.5,
    extra="models",
    # 320 s in 24 GB: what MMS-LID holds of them outside its sliced front end, beside 4.4 GB of weights: its own are
    # half, IndicConformer's in ONNX Runtime are single.
    card_s_per_gib=13.5,
)

SUITES: Mapping[str, SuiteSpec] = {
    "local": SuiteSpec(
        models={
            "whisper": "validation.models.whisper.model:WhisperBase",
            "dnsmos": "validation.models.dnsmos:Dnsmos",
            "silero": "validation.models.silero:SileroVad",
        },
        transcriber="whisper",
        judges=("whisper",),
        rules="local-2",
        # Four segments in Whisper's shortest window. A CPU gains nothing from more: eight cost the same each, and
        # 23 half as much again.
        budget_s=45.0,
        min_padded_s=10.0,
        extra="local",
    ),
    # The cheapest real answer, for runs that test the fleet and not the speech: a second of audio costs 3 ms.
    "vad": SuiteSpec(
        models={"silero": "validation.models.silero:SileroVad"},
        transcriber=None,
        judges=(),
        rules="vad-1",
        budget_s=60.0,
        min_padded_s=1.0,
        extra="local",
    ),
    "indic": _INDIC,
    # MMS-LID is 84 % of the work. Here it is spared where both others are sure; results carry the suite's name.
    "indic-cascade": replace(
        _INDIC, cascade=Cascade("cascade-1", spared="mms", sure_p={"conformer": 0.5, "voxlingua": 0.8})
    ),
}
"""Every suite by name. A new model is a file that keeps ``SegmentModel``'s promise, and a line here."""


@dataclass(slots=True)
class ModelStats:
    """What one model has cost so far."""

    segments: int = 0
    faults: int = 0
    audio_s: Seconds = 0.0
    wall_s: Seconds = 0.0
    cpu_s: Seconds = 0.0
    """Of the whole process while the model ran: an upper bound where other threads work meanwhile."""


class Suite(SyncScorerMixin):
    """A named, ordered set of models that answer together. Safe to share between threads."""

    def __init__(
        self,
        name: str,
        models: Sequence[SegmentModel],
        *,
        roles: SuiteRoles,
        rules: Rules,
        budget_s: Seconds,
        min_padded_s: Seconds,
        budget_kept_in: Path | None = None,
        cascade: Cascade | None = None,
    ) -> None:
        self.name, self.roles, self.rules = name, roles, rules
        self.revisions: Mapping[str, str] = {model.name: model.revision for model in models}
        self.columns: Mapping[str, Sequence[Column]] = {model.name: model.columns for model in models}
        self.budget, self.min_padded_s = Budget(budget_s, kept_in=budget_kept_in), min_padded_s
        self._models, self._cascade = tuple(models), cascade
        # Who may be spared is asked last, when the others have answered.
        self._in_turn = sorted(models, key=lambda model: cascade is not None and model.name == cascade.spared)
        self._lock = threading.Lock()  # held for one batch: callers take turns
        self.reset_stats()

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Ask every model about every utterance.

        An answer depends on nothing but its own utterance. What cannot be asked (``too_short``, ``not_finite``) or
        fails by itself (``model_failed``) is ``Unscored``; nothing is raised on its account.

        Returns:
            For each utterance, in input order, one answer of each model that it wants, by the model's name.

        Raises:
            GpuLost: this process can compute nothing more.
        """
        faults = [find_fault(utterance.audio) for utterance in utterances]
        answers: list[dict[str, Answer]] = [
            dict.fromkeys(self.columns, Unscored(fault)) if fault else {} for fault in faults
        ]
        askable = [row for row, fault in enumerate(faults) if fault is None]
        durations_s = [utterances[row].duration_s for row in askable]
        for batch in plan_batches(durations_s, self.budget.seconds, min_padded_s=self.min_padded_s):
            rows = [askable[item] for item in batch]
            for row, reply in zip(rows, self.score_batch(pad_batch([utterances[row] for row in rows])), strict=True):
                answers[row] = reply
        return answers

    def reset_stats(self) -> None:
        """Set ``meters`` and ``fill``, what the models have cost and how full their batches were, to nothing."""
        self.meters: Mapping[str, ModelStats] = {model.name: ModelStats() for model in self._models}
        self.fill = PaddingStats()

    def score_batch(self, batch: Batch) -> list[dict[str, Answer]]:
        """Ask about one batch of utterances that have no fault of their own.

        Whoever makes batches keeps them within ``budget``, which shrinks where memory does not suffice; the batch
        that shrank it is answered all the same.

        Returns:
            For each item, in order, one answer of each model that it wants, by the model's name.

        Raises:
            GpuLost: this process can compute nothing more.
        """
        with self._lock:
            self.fill += measure_fill((batch.lengths / SAMPLE_RATE).tolist())
            return self._ask_in_turn(batch)

    def _ask_in_turn(self, batch: Batch) -> list[dict[str, Answer]]:
        answers: list[dict[str, Answer]] = [{} for _ in range(len(batch))]
        for model in self._in_turn:
            rows = batch.rows_for(model.name)
            if self._cascade and self._cascade.spared == model.name:
                settled = self._cascade.find_confident(batch, answers)
                for row in settled:
                    answers[row][model.name] = SKIPPED
                rows = [row for row in rows if row not in settled]
            for row, reply in zip(rows, self._ask(model, take_rows(batch, rows)) if rows else [], strict=True):
                answers[row][model.name] = reply
        return [{name: own[name] for name in self.columns if name in own} for own in answers]

    def _ask(self, model: SegmentModel, batch: Batch) -> list[Answer]:
        meter = self.meters[model.name]
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        replies = score_with_bisection(model, batch, on_overrun=self._record_oom)
        meter.wall_s += time.perf_counter() - wall_s
        meter.cpu_s += time.process_time() - cpu_s
        meter.audio_s += true_audio_s(batch)
        meter.segments += len(replies)
        meter.faults += sum(isinstance(reply, Unscored) for reply in replies)
        return replies

    def _record_oom(self, batch: Batch) -> None:
        self.budget.halve(batch_cost_s(batch, min_padded_s=self.min_padded_s))


def find_fault(audio: Waveform) -> Fault | None:
    """Say why no model can be asked about audio, if so."""
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
        threads: threads a model computes with; all cores that this process may use by default.

    Raises:
        BadInput: there is no such suite, or the packages of its extra are not installed.
        WeightsRefused: a weight file is missing or altered.
        BadRules: its rules read columns that it does not have.
    """
    recipe = SUITES.get(name)
    if recipe is None:
        raise BadInput(f"no suite is called {name!r}; known are {', '.join(sorted(SUITES))}")
    roles = SuiteRoles(tuple(recipe.models), recipe.transcriber, recipe.judges)
    rules = load_rules(recipe.rules)
    models = [_load_model(where, recipe.extra, threads or count_cores()) for where in recipe.models.values()]
    check_columns(rules, _rule_columns(models))
    card = next(iter(read_gpus()), None)
    return Suite(
        name,
        models,
        roles=roles,
        rules=rules,
        budget_s=start_budget_s(recipe, card.memory_gib if card else None),
        min_padded_s=recipe.min_padded_s,
        budget_kept_in=budget_file(name, {model.name: model.revision for model in models}, card.name if card else None),
        cascade=recipe.cascade,
    )


def batching_policy(suite: str) -> str:
    """Name the policy by which a suite asks its models: ``all``, or what spares one of them."""
    cascade = find_cascade(suite)
    return cascade.name if cascade else "all"


def find_cascade(suite: str) -> Cascade | None:
    """Find what spares a judge of a suite, None where nothing does."""
    recipe = SUITES.get(suite)
    return recipe.cascade if recipe else None


def start_budget_s(recipe: SuiteSpec, card_gib: float | None) -> Seconds:
    """What a batch may hold before anything is known of a machine's memory but its size."""
    if card_gib is None or recipe.card_s_per_gib is None:
        return recipe.budget_s
    return min(CARD_BUDGET_S, recipe.card_s_per_gib * card_gib)


def count_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _load_model(where: str, extra: str, threads: int) -> SegmentModel:
    module, _, cls = where.partition(":")
    try:
        model: SegmentModel = getattr(import_module(module), cls)(threads=threads)
    except ModuleNotFoundError as error:
        raise BadInput(
            f"{module} needs {error.name}, which is not installed: pip install 'validation-fleet[{extra}]'"
        ) from None
    return model


def _rule_columns(models: Sequence[SegmentModel]) -> dict[str, ColumnType]:
    """Name every signal that a verdict rule may read, with its type."""
    own = {f"{model.name}_{column.name}": column.type for model in models for column in model.columns}
    faults = ["fault", *(f"{model.name}_fault" for model in models)]
    return {column.name: column.type for column in DERIVED_SIGNALS} | own | dict.fromkeys(faults, "str")

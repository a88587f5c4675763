"""Suites: which models answer together, and how a crowd of utterances is put to them."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from validation.domain import Answer, Column, ColumnType, Fault, Seconds, Unscored, Utterance
from validation.errors import BadInput
from validation.models.base import Batch, SegmentModel
from validation.models.batching import Fill, measure_fill, pad_batch, plan_batches, true_audio_s
from validation.models.isolation import score_isolated
from validation.scoring.rules_file import check_columns, load_rules
from validation.scoring.signals import DERIVED_SIGNALS, SuiteRoles
from validation.scoring.verdict import Rules

SHORTEST_S = 0.1
"""Nobody says anything in less."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a suite is made of."""

    models: Mapping[str, str]
    """``module:class`` of each model by its name, in the order of their columns."""
    transcriber: str | None
    judges: tuple[str, ...]
    rules: str
    budget_s: Seconds
    """Padded seconds a batch, with attention's share: see ``plan_batches``."""
    least_s: Seconds
    """The shortest that a segment becomes inside the models: how many short ones a batch may hold."""
    extra: str
    """The extra of this distribution that brings what the models import."""


SUITES: Mapping[str, Recipe] = {
    "local": Recipe(
        models={
            "whisper": "validation.models.whisper:WhisperBase",
            "dnsmos": "validation.models.dnsmos:Dnsmos",
            "silero": "validation.models.silero:SileroVad",
        },
        transcriber="whisper",
        judges=("whisper",),
        rules="local-1",
        # Four segments in Whisper's shortest window. A CPU gains nothing from more: eight cost the same each, and
        # 23 half as much again.
        budget_s=45.0,
        least_s=10.0,
        extra="local",
    ),
    # The cheapest real answer, for runs that test the fleet and not the speech: a second of audio costs 3 ms.
    "vad": Recipe(
        models={"silero": "validation.models.silero:SileroVad"},
        transcriber=None,
        judges=(),
        rules="vad-1",
        budget_s=60.0,
        least_s=1.0,
        extra="local",
    ),
}
"""Every suite by name. A new model is a file that keeps ``SegmentModel``'s promise, and a line here."""


@dataclass(slots=True)
class Meter:
    """What one model has cost so far."""

    segments: int = 0
    faults: int = 0
    audio_s: Seconds = 0.0
    wall_s: Seconds = 0.0
    cpu_s: Seconds = 0.0
    """Of the whole process while the model ran: an upper bound where other threads work meanwhile."""


class Suite:
    """A named, ordered set of models that answer together. Safe to share between threads."""

    def __init__(
        self,
        name: str,
        models: Sequence[SegmentModel],
        *,
        roles: SuiteRoles,
        rules: Rules,
        budget_s: Seconds,
        least_s: Seconds,
    ) -> None:
        self.name, self.roles, self.rules = name, roles, rules
        self.revisions: Mapping[str, str] = {model.name: model.revision for model in models}
        self.columns: Mapping[str, Sequence[Column]] = {model.name: model.columns for model in models}
        self.pool_audio_s = 2 * budget_s
        """Seconds of audio that it wants at once: batches are then full and of like lengths, and a wait stays short."""
        self.meters: Mapping[str, Meter] = {model.name: Meter() for model in models}
        self.fill = Fill()
        """Seconds of audio put to the models so far, without and with padding."""
        self._models, self._budget_s, self._least_s = tuple(models), budget_s, least_s
        self._lock = threading.Lock()  # held for one batch: callers take turns

    def score(self, utterances: Sequence[Utterance]) -> list[dict[str, Answer]]:
        """Ask every model about every utterance.

        An answer depends on nothing but its own utterance. What cannot be asked (``too_short``, ``not_finite``) or
        fails by itself (``model_failed``) is ``Unscored``; nothing is raised on its account.

        Returns:
            For each utterance, in input order, one answer a model by the model's name.
        """
        faults = [find_fault(utterance) for utterance in utterances]
        answers: list[dict[str, Answer]] = [
            dict.fromkeys(self.columns, Unscored(fault)) if fault else {} for fault in faults
        ]
        askable = [row for row, fault in enumerate(faults) if fault is None]
        durations_s = [utterances[row].duration_s for row in askable]
        for batch in plan_batches(durations_s, self._budget_s, least_s=self._least_s):
            rows = [askable[item] for item in batch]
            for model, replies in self._ask_all([utterances[row] for row in rows]).items():
                for row, reply in zip(rows, replies, strict=True):
                    answers[row][model] = reply
        return answers

    def _ask_all(self, utterances: Sequence[Utterance]) -> dict[str, list[Answer]]:
        batch = pad_batch(utterances)
        with self._lock:
            self.fill += measure_fill([utterance.duration_s for utterance in utterances])
            return {model.name: self._ask(model, batch) for model in self._models}

    def _ask(self, model: SegmentModel, batch: Batch) -> list[Answer]:
        meter = self.meters[model.name]
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        replies = score_isolated(model, batch)
        meter.wall_s += time.perf_counter() - wall_s
        meter.cpu_s += time.process_time() - cpu_s
        meter.audio_s += true_audio_s(batch)
        meter.segments += len(replies)
        meter.faults += sum(isinstance(reply, Unscored) for reply in replies)
        return replies


def find_fault(utterance: Utterance) -> Fault | None:
    """Say why no model can be asked about an utterance, if so."""
    if utterance.duration_s < SHORTEST_S:
        return Fault("too_short", f"{utterance.duration_s:.3f} s of audio; {SHORTEST_S} s are needed")
    if not np.isfinite(utterance.audio).all():
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
    return Suite(name, models, roles=roles, rules=rules, budget_s=recipe.budget_s, least_s=recipe.least_s)


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

"""The catalogue of suites: the models, rules, batch budget and cascade of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from validation.domain import Answer, Fault, Scored, Seconds, Unscored
from validation.languages import normalize_language_code
from validation.models.base import Batch
from validation.scoring.verdict import Condition

SKIPPED = Unscored(Fault("not_asked", "the cheaper judges are sure of the declared language"))
"""The answer of the skipped model. Shards hold this sentence and rules compare with it, so it does not change."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Skips one LID model for segments whose declared language the other LID models confirm.

    The language is confirmed if every other model knows it, has it as first choice, and gives it at least the
    probability that is set for that model. Any disagreement, abstention or failure is decided by the skipped model.
    So all models still score every wrong label; only the third confirmation of a right label is left out.
    """

    name: str
    """Written into every shard's provenance; other bounds need another name."""
    skipped_model: str
    min_declared_p: Mapping[str, float]
    """The least probability of the declared language, for each of the other models."""

    @property
    def bounds(self) -> tuple[Condition, ...]:
        """The bounds as conditions on a row of a shard."""
        return tuple(
            Condition(column=f"{model}_declared_p", op=">=", value=p) for model, p in self.min_declared_p.items()
        )

    def is_confident(self, declared: str | None, answers: Mapping[str, Answer]) -> bool:
        """Whether the other models confirm a segment's declared language, given their answers by name."""
        language = normalize_language_code(declared)
        return language is not None and all(
            _confirms(answers[model], language, min_p) for model, min_p in self.min_declared_p.items()
        )

    def find_confident(self, batch: Batch, answers: Sequence[Mapping[str, Answer]]) -> set[int]:
        """Find the rows for which the model is ``SKIPPED``; never a row that requests its models by name.

        Args:
            batch: the segments that the other models have scored.
            answers: the other models' answers, by name, for each row.
        """
        unrestricted = (row for row, requested in enumerate(batch.requested_models) if requested is None)
        return {row for row in unrestricted if self.is_confident(batch.languages[row], answers[row])}


def _confirms(answer: Answer, language: str, min_p: float) -> bool:
    if not isinstance(answer, Scored) or answer.values["language"] != language:
        return False
    declared_p = answer.values["declared_p"]
    return declared_p is not None and float(declared_p) >= min_p


MAX_GPU_BUDGET_S: Seconds = 640.0
"""Beyond this budget padding grows, and the fastest GPUs compute no faster."""


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """The specification of a suite."""

    models: Mapping[str, str]
    """``module:callable`` that loads each model, by its name, in the order of their columns."""
    asr_model: str | None
    lid_models: tuple[str, ...]
    rules: str
    budget_s: Seconds
    """The batch budget in padded seconds, attention's share included: see ``plan_batches``."""
    min_padded_s: Seconds
    """The length to which the models pad shorter segments: it limits how many short segments a batch holds."""
    extra: str
    """The extra of this distribution that installs what the models import."""
    gpu_s_per_gib: float | None = None
    """On a GPU, the initial budget per GiB of its memory instead; at most ``MAX_GPU_BUDGET_S``."""
    known_clips: tuple[str, ...] = ()
    """Clips with known text that the suite must recognise before it serves: see ``self_test.check_speech``."""
    cascade: Cascade | None = None
    """Skips one LID model where the others are confident; None asks every model about every segment."""


_INDIC = SuiteSpec(
    models={
        "conformer": "validation.models.conformer.model:IndicConformer",
        "mms": "validation.models.mms_lid:MmsLid",
        "voxlingua": "validation.models.voxlingua:VoxLingua107",
        "dnsmos": "validation.models.dnsmos:load_dnsmos",
        "silero": "validation.models.silero:SileroVad",
    },
    asr_model="conformer",
    lid_models=("conformer", "mms", "voxlingua"),
    rules="indic-2",
    # A CPU gains nothing from larger batches: of budgets from 5 to 80 s, 10 and 20 were fastest (10 % below 40).
    budget_s=20.0,
    min_padded_s=0.5,
    extra="models",
    # 320 s in 24 GB: the memory of MMS-LID outside its sliced front end, beside 3.2 GB of weights (MMS-LID's and
    # IndicConformer's in half precision).
    gpu_s_per_gib=13.5,
    known_clips=("hi_ginti", "hi_namaste_duniya"),
)

SUITES: Mapping[str, SuiteSpec] = {
    "local": SuiteSpec(
        models={
            "whisper": "validation.models.whisper.model:WhisperBase",
            "dnsmos": "validation.models.dnsmos:Dnsmos",
            "silero": "validation.models.silero:SileroVad",
        },
        asr_model="whisper",
        lid_models=("whisper",),
        rules="local-3",
        # Four segments in Whisper's shortest window. A CPU gains nothing from larger batches: with eight a segment
        # takes the same time, with 23 half as much again.
        budget_s=45.0,
        min_padded_s=10.0,
        extra="local",
        known_clips=("en_librivox_0880",),
    ),
    # The cheapest real answer, for runs that test the fleet and not the speech: 3 ms per second of audio.
    "vad": SuiteSpec(
        models={"silero": "validation.models.silero:SileroVad"},
        asr_model=None,
        lid_models=(),
        rules="vad-1",
        budget_s=60.0,
        min_padded_s=1.0,
        extra="local",
    ),
    "indic": _INDIC,
    # MMS-LID is 84 % of the work. This suite skips it where both other LID models are confident; results carry the
    # suite's name.
    "indic-cascade": replace(
        _INDIC,
        cascade=Cascade("cascade-1", skipped_model="mms", min_declared_p={"conformer": 0.5, "voxlingua": 0.8}),
    ),
}
"""Every suite by name. A new model is one module that implements ``SegmentModel``, and one line here."""


def batching_policy(suite: str) -> str:
    """Name the policy by which a suite asks its models: ``all``, or the name of its cascade."""
    cascade = find_cascade(suite)
    return cascade.name if cascade else "all"


def find_cascade(suite: str) -> Cascade | None:
    """Find the cascade of a suite; None for a suite that asks all models, and for an unknown suite."""
    spec = SUITES.get(suite)
    return spec.cascade if spec else None


def initial_budget_s(spec: SuiteSpec, gpu_gib: float | None) -> Seconds:
    """Compute the initial batch budget from the size of the GPU memory; ``gpu_gib`` is None without a GPU."""
    if gpu_gib is None or spec.gpu_s_per_gib is None:
        return spec.budget_s
    return min(MAX_GPU_BUDGET_S, spec.gpu_s_per_gib * gpu_gib)

"""The catalogue of suites: the models, rules, batch budget and cascade of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from validation.domain import Answer, Fault, Scored, Seconds, Unscored
from validation.languages import normalize_language_code
from validation.models.base import Batch
from validation.scoring.verdict import Condition

SKIPPED = Unscored(Fault("not_asked", "the cheaper judges are sure of the declared language"))
"""The answer of a model that a cascade skips. Shards hold this text, and rules compare with it: do not change it."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """A condition for skipping one LID model: the other LID models confirm the declared language of a segment.

    The language is confirmed if it is the likeliest language of every other model, with at least the probability that
    ``min_declared_p`` sets for that model. If one of them disagrees, abstains or fails, all models score the segment.
    So all models still score every segment whose label is in doubt. The cascade only saves the last confirmation of a
    label.
    """

    name: str
    """The name in the provenance of every shard. A cascade with other bounds needs another name."""
    skipped_model: str
    """The name of the model that the cascade may skip."""
    min_declared_p: Mapping[str, float]
    """The minimum probability of the declared language, by the name of each other LID model."""

    @property
    def bounds(self) -> tuple[Condition, ...]:
        """The minimum probabilities as conditions on a row of a shard."""
        return tuple(
            Condition(column=f"{model}_declared_p", op=">=", value=p) for model, p in self.min_declared_p.items()
        )

    def is_confident(self, declared: str | None, answers: Mapping[str, Answer]) -> bool:
        """Return whether the answers of the other models, by model name, confirm a segment's declared language."""
        language = normalize_language_code(declared)
        return language is not None and all(
            _confirms(answers[model], language, min_p) for model, min_p in self.min_declared_p.items()
        )

    def find_skipped_rows(self, batch: Batch, answers: Sequence[Mapping[str, Answer]]) -> set[int]:
        """Find the rows of a batch for which the model is skipped. A row that requests models by name is never skipped.

        Args:
            batch: the segments that the other models have scored.
            answers: for each row, the answers of the other models by model name.
        """
        unrestricted = (row for row, requested in enumerate(batch.requested_models) if requested is None)
        return {row for row in unrestricted if self.is_confident(batch.languages[row], answers[row])}


def _confirms(answer: Answer, language: str, min_p: float) -> bool:
    """Return whether an answer names this language as the likeliest, with at least the probability ``min_p``."""
    if not isinstance(answer, Scored) or answer.values["language"] != language:
        return False
    declared_p = answer.values["declared_p"]
    return declared_p is not None and float(declared_p) >= min_p


MAX_GPU_BUDGET_S: Seconds = 640.0
"""The greatest initial budget on a GPU. With larger batches padding grows, and even the fastest GPUs gain no speed."""


@dataclass(frozen=True, slots=True)
class SuiteSpec:
    """The models, rules and batch budget of a suite."""

    models: Mapping[str, str]
    """The ``module:callable`` that loads a model, by model name, in the order of the models' columns."""
    asr_model: str | None
    """The name of the model that transcribes; None without such a model."""
    lid_models: tuple[str, ...]
    """The names of the models that identify languages."""
    rules: str
    """The version of the suite's rules, as ``load_rules`` reads them."""
    budget_s: Seconds
    """The initial batch budget on a CPU, in padded seconds: see ``plan_batches``."""
    min_padded_s: Seconds
    """The length to which the models pad shorter segments. It limits the number of short segments in a batch."""
    extra: str
    """The extra of this Python distribution that installs the packages of the models."""
    gpu_s_per_gib: float | None = None
    """The initial batch budget on a GPU, in padded seconds per GiB of GPU memory, up to ``MAX_GPU_BUDGET_S``. None uses
    ``budget_s`` on a GPU too."""
    known_clips: tuple[str, ...] = ()
    """Clips with known text that the suite must recognise before it serves: see ``self_test.check_speech``."""
    cascade: Cascade | None = None
    """The cascade that skips one LID model; None scores every segment with every model."""


_INDIC = SuiteSpec(
    models={
        "conformer": "validation.models.conformer.model:IndicConformer",
        "mms": "validation.models.mms_lid:MmsLid",
        "voxlingua": "validation.models.voxlingua:VoxLingua107",
        "dnsmos": "validation.models.dnsmos:load_dnsmos",
        "silero": "validation.models.silero_torch:load_silero",
    },
    asr_model="conformer",
    lid_models=("conformer", "mms", "voxlingua"),
    rules="indic-2",
    # A CPU gains nothing from larger batches: of budgets from 5 to 80 s, 10 and 20 were fastest (10 % below 40).
    budget_s=20.0,
    min_padded_s=0.5,
    extra="models",
    # 320 s in 24 GB, which also hold 3.2 GB of weights: MMS-LID and IndicConformer in half precision. The limit is the
    # memory of MMS-LID without its front end, which processes a batch in slices.
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
    # The cheapest real model, for runs that test the fleet and not the speech. It takes 3 ms per second of audio.
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
    # MMS-LID is 84 % of the work. This suite skips MMS-LID if both other LID models are confident. The results hold
    # the name of the suite.
    "indic-cascade": replace(
        _INDIC,
        cascade=Cascade("cascade-1", skipped_model="mms", min_declared_p={"conformer": 0.5, "voxlingua": 0.8}),
    ),
}
"""Every suite by name. CONTRIBUTING.md tells how to add a model; a LID model also needs an entry in
``label_files``."""


def cascade_name_of(suite: str) -> str:
    """Return the name of the suite's cascade; ``all`` for a suite without a cascade, and for an unknown suite."""
    cascade = find_cascade(suite)
    return cascade.name if cascade else "all"


def find_cascade(suite: str) -> Cascade | None:
    """Return the cascade of a suite; None for a suite without a cascade, and for an unknown suite."""
    spec = SUITES.get(suite)
    return spec.cascade if spec else None


def initial_budget_s(spec: SuiteSpec, gpu_gib: float | None) -> Seconds:
    """Compute the initial batch budget, in padded seconds, from the GPU memory in GiB; None stands for no GPU."""
    if gpu_gib is None or spec.gpu_s_per_gib is None:
        return spec.budget_s
    return min(MAX_GPU_BUDGET_S, spec.gpu_s_per_gib * gpu_gib)

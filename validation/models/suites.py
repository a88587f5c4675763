"""The catalogue of suites: the models, rules and batch budget of each."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from validation.domain import Seconds
from validation.models.cascade import Cascade

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
    """Clips with known text that the suite must recognise before it serves: see ``known_speech``."""
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

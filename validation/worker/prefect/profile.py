"""Who this worker is, as `worker_validators` shows it."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version

from validation.domain import WorkerProfile
from validation.hardware.gpu import read_gpus
from validation.inference.protocol import SuiteInfo
from validation.settings import Settings
from validation.worker.prefect.process_identity import current_identity

BUDGETS = (
    "chunk_videos",
    "group_videos",
    "look_ahead_videos",
    "look_ahead_bytes",
    "fetchers",
    "lease_s",
    "heartbeat_s",
    "drain_grace_s",
    "max_attempts",
)
"""The settings that decide how much a box takes on and how long it holds it."""


def describe_worker(settings: Settings, *, prefect_worker: str, limit: int | None) -> WorkerProfile:
    """Describe this process, its machine and its settings. ``limit`` is how many flow runs it takes at a time."""
    gpus = read_gpus()
    return WorkerProfile(
        worker_id=settings.worker_id,
        gpu_type=settings.gpu_type or (gpus[0].name if gpus else None),
        gpu_vram_gb=gpus[0].memory_gib if gpus else None,
        config={
            "instance": str(current_identity()),
            "hostname": platform.node(),
            "suite": settings.suite,
            "languages": list(settings.languages),
            "gpus": [asdict(gpu) for gpu in gpus],
            "budgets": {"flow_runs": limit} | {name: getattr(settings, name) for name in BUDGETS},
            "versions": _versions(),
        },
        prefect_worker=prefect_worker,
    )


def add_models(profile: WorkerProfile, suite: SuiteInfo) -> WorkerProfile:
    """Describe the worker with what its model host has loaded."""
    models = {"revisions": dict(suite.revisions), "batch_budget_s": suite.budget_s}
    return replace(profile, config={**profile.config, **models})


def _versions() -> Mapping[str, str]:
    packages = {name: version(name) for name in ("validation-fleet", "prefect")}
    return packages | {"python": platform.python_version()}

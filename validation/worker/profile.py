"""What the row of a worker in the ledger shows: its machine, GPU, settings, versions and models."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version

from sqlalchemy import Engine

from validation.domain import WorkerProfile
from validation.hardware.gpu import read_gpus
from validation.inference.protocol import SuiteInfo
from validation.ledger.workers import register_worker, retire_worker
from validation.settings import Settings
from validation.worker.process_identity import current_identity

CONFIG_SETTINGS = (
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
"""The settings that decide how much work a box takes and how long it holds it."""


def describe_worker(settings: Settings, *, prefect_worker: str | None, limit: int | None) -> WorkerProfile:
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
            "budgets": {"flow_runs": limit} | {name: getattr(settings, name) for name in CONFIG_SETTINGS},
            "versions": _versions(),
        },
        prefect_worker=prefect_worker,
    )


def add_models(profile: WorkerProfile, suite: SuiteInfo) -> WorkerProfile:
    """Add what the inference server has loaded to the description of a worker."""
    models = {"revisions": dict(suite.revisions), "batch_budget_s": suite.budget_s}
    return replace(profile, config={**profile.config, **models})


@contextmanager
def temporary_registration(engine: Engine, settings: Settings) -> Iterator[None]:
    """Register this process as a worker while the block runs, and retire it at the end. For work without Prefect.

    Raises:
        WorkerIdTaken: a worker is online under this id.
        BoxKeyRejected, WorkerQuarantined, Unreachable: as ``register_worker``.
    """
    profile = describe_worker(settings, prefect_worker=None, limit=1)
    register_worker(engine, profile)
    try:
        yield
    finally:
        retire_worker(engine, profile.worker_id, instance=str(profile.config["instance"]))


def _versions() -> Mapping[str, str]:
    packages = {name: version(name) for name in ("validation-fleet", "prefect")}
    return packages | {"python": platform.python_version()}

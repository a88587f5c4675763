"""The calls of a worker about itself: register, heartbeat, drain, retire. One Python function per SQL function."""

import json

from sqlalchemy import Engine

from validation.domain import WorkerProfile
from validation.escape import for_ledger
from validation.ledger.chunks import MAX_CRASHES
from validation.ledger.rpc import call_function

HEARTBEAT_TIMEOUT_S = 75
"""Seconds without a heartbeat after which a worker is stale: the default lease, within which two heartbeats are due."""


def register_worker(engine: Engine, profile: WorkerProfile, *, replaces: str | None = None) -> int:
    """Insert a worker's row, or take it over after a restart.

    Args:
        engine: the ledger.
        profile: the worker; ``profile.config["instance"]`` names this process of this machine.
        replaces: an instance that the caller knows to be dead; its row is taken over at once.

    Returns:
        How many chunks of the worker's earlier session were taken back.

    Raises:
        WorkerIdTaken: another live instance sends heartbeats under this id.
        WorkerQuarantined: the worker's answers to a canary were wrong; nothing was changed.
    """
    vram_gb = profile.gpu_vram_gb
    (row,) = call_function(
        engine, "register_worker",
        worker=profile.worker_id, gpu_type=profile.gpu_type,
        gpu_vram_gb=None if vram_gb is None else str(vram_gb),  # psycopg sends a float as double: no function takes it
        config=json.dumps(dict(profile.config)), prefect_worker=profile.prefect_worker,
        replaces=replaces, max_crashes=MAX_CRASHES,
    )  # fmt: skip
    return int(row[0])


def heartbeat_worker(
    engine: Engine, worker_id: str, *, instance: str | None = None, last_error: str | None = None
) -> None:
    """Report that the worker is alive, whether or not it holds a chunk.

    ``instance`` is the process as it registered: the ledger refuses this call, ``drain_worker`` and ``retire_worker``
    from an instance that was replaced. Without it only ``last_error`` is recorded, and no heartbeat.

    Raises:
        WorkerIdTaken: another instance has taken over the worker's row; nothing was changed.
        WorkerQuarantined: the worker's answers to a canary were wrong; nothing was changed. Only with ``instance``.
    """
    sentence = None if last_error is None else for_ledger(last_error)
    call_function(engine, "heartbeat_worker", worker=worker_id, last_error=sentence, instance=instance)


def drain_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> None:
    """Announce that the worker takes no new chunk. Raises as ``heartbeat_worker``."""
    call_function(engine, "drain_worker", worker=worker_id, instance=instance)


def retire_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> int:
    """Mark the worker offline and give its open chunks back; returns how many. Raises as ``heartbeat_worker``."""
    (row,) = call_function(engine, "retire_worker", worker=worker_id, instance=instance)
    return int(row[0])

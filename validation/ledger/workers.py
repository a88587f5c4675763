"""Calls of a worker about its own row: register, heartbeat, drain, retire. One Python function per SQL function."""

import json

from sqlalchemy import Engine

from validation.domain import WorkerProfile
from validation.escape import for_ledger
from validation.ledger.chunks import MAX_CRASHES
from validation.ledger.rpc import call_function

HEARTBEAT_TIMEOUT_S = 75
"""Seconds without a heartbeat after which a worker is stale: the default lease. At least two heartbeats are due in
this time."""


def register_worker(engine: Engine, profile: WorkerProfile, *, replaces: str | None = None) -> int:
    """Insert the row of a worker, or assign the existing row to this process after a restart.

    Args:
        engine: the ledger.
        profile: the worker; ``profile.config["instance"]`` identifies this process of this machine.
        replaces: the id of an instance that the caller knows to be dead; this process gets its row at once.

    Returns:
        The number of chunks of the worker's earlier session that were taken back.

    Raises:
        WorkerIdTaken: an instance other than ``replaces`` sent a heartbeat with this worker id within the last 60 s.
        WorkerQuarantined: the worker is quarantined.
        BoxKeyRejected: the box key does not belong to this worker.
        LedgerRefused: ``profile.config`` has an invalid value, more than 64 KiB or more than 99 flow runs.
            After each of these errors nothing was changed.
    """
    vram_gb = profile.gpu_vram_gb
    (row,) = call_function(
        engine, "register_worker",
        worker=profile.worker_id, gpu_type=profile.gpu_type,
        gpu_vram_gb=None if vram_gb is None else str(vram_gb),  # psycopg would send a float as double, not as real
        config=json.dumps(dict(profile.config)), prefect_worker=profile.prefect_worker,
        replaces=replaces, max_crashes=MAX_CRASHES,
    )  # fmt: skip
    return int(row[0])


def heartbeat_worker(
    engine: Engine, worker_id: str, *, instance: str | None = None, last_error: str | None = None
) -> None:
    """Record a heartbeat of the worker, with or without an open chunk. A stale or offline worker becomes online.

    ``instance`` is the instance id with which the process registered. If another instance has replaced it, the ledger
    refuses this call, ``drain_worker`` and ``retire_worker``. Without ``instance`` the call records only ``last_error``
    and no heartbeat.

    Raises:
        WorkerIdTaken: the worker's row belongs to another instance; nothing was changed.
        WorkerQuarantined: the worker is quarantined; nothing was changed. Only with ``instance``.
        BoxKeyRejected: the box key does not belong to this worker.
    """
    sentence = None if last_error is None else for_ledger(last_error)
    call_function(engine, "heartbeat_worker", worker=worker_id, last_error=sentence, instance=instance)


def drain_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> None:
    """Mark the worker draining: it claims no new chunk.

    Raises WorkerIdTaken and BoxKeyRejected as ``heartbeat_worker``.
    """
    call_function(engine, "drain_worker", worker=worker_id, instance=instance)


def retire_worker(engine: Engine, worker_id: str, *, instance: str | None = None) -> int:
    """Mark the worker offline and release its open chunks. Returns the number of released chunks.

    Raises WorkerIdTaken and BoxKeyRejected as ``heartbeat_worker``.
    """
    (row,) = call_function(engine, "retire_worker", worker=worker_id, instance=instance)
    return int(row[0])

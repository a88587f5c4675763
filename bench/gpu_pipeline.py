"""Run batches through networks as the inference server does: two batches in flight, answers in threads of their own."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore

from gpu_models import Net

from validation.hardware.streams import Mark
from validation.models.base import Batch
from validation.models.batching import launch_model

IN_FLIGHT = 2
"""As `validation.inference.executor.MAX_IN_FLIGHT`, whose module needs packages that a bare machine lacks."""


def run_apart(nets: Sequence[Net], batches: Sequence[Batch], device: str) -> float:
    """Launch each batch while the answers of the batch before are made; return the seconds for all batches."""
    places = Semaphore(IN_FLIGHT)
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(1, "answer") as answering, ThreadPoolExecutor(len(nets), "model") as models:

        def answer(launched: Sequence, mark: Mark) -> None:
            mark.wait()
            list(models.map(lambda one: one(), launched))
            places.release()

        started_s = time.perf_counter()
        for batch in batches:
            places.acquire()
            batch.uploads.clear()  # the batch is used several times
            launched = [launch_model(net, batch) for net in nets]
            pending.append(answering.submit(answer, launched, Mark(device)))
        for future in pending:
            future.result()
        return time.perf_counter() - started_s


def run_in_turn(nets: Sequence[Net], batches: Sequence[Batch]) -> dict[str, float]:
    """Score each batch with one network after the other; return the seconds per network, with upload and answers."""
    took_s = dict.fromkeys((net.name for net in nets), 0.0)
    for batch in batches:
        batch.uploads.clear()
        for net in nets:
            started_s = time.perf_counter()
            net.score(batch)
            took_s[net.name] += time.perf_counter() - started_s
    return took_s

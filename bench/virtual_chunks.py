"""Put the load of a fleet on a Prefect server: flow runs with 13 empty task runs each, and the polls of workers."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

TASKS = 13
"""Number of task runs of a chunk of 50 videos: 1 claim, 5 fetch, 5 score, 1 write, 1 commit."""
CHUNK_S = 13.0
"""Seconds of a virtual chunk. Real chunks are longer, so a real fleet runs more of them at the same time. The number
of chunks that start per second is the same."""
POLL_EVERY_S = 10.0
"""Seconds between two polls of one worker, as in the setting PREFECT_WORKER_QUERY_SECONDS."""


@dataclass
class Offered:
    """The load that was put on the server: finished chunks, successful polls, and errors of both."""

    chunks: int = 0
    polls: int = 0
    errors: list[str] = field(default_factory=list)


@task(name="step", cache_policy=NO_CACHE)
def step() -> None:
    time.sleep(CHUNK_S / TASKS)


@flow(name="virtual-chunk")
def virtual_chunk() -> None:
    for _ in range(TASKS):
        step()


def offer_chunks(api_url: str, pool: str, chunks_per_s: float, workers: float, for_s: float) -> Offered:
    """Start chunks and poll at a constant rate for ``for_s`` seconds, then wait until every chunk has ended.

    The rate does not depend on the latency of the server, unless all 200 threads of the pool are busy.
    """
    offered, stop_at = Offered(), time.time() + for_s
    pollers = ceil(workers / POLL_EVERY_S)  # each thread polls about once per second, independently of the others
    every_s = pollers * POLL_EVERY_S / workers
    polling = [threading.Thread(target=_poll, args=(api_url, pool, every_s, stop_at, offered)) for _ in range(pollers)]
    for poller in polling:
        poller.start()
    with ThreadPoolExecutor(max_workers=200) as running:
        runs = []
        while time.time() < stop_at:
            runs.append(running.submit(virtual_chunk))
            time.sleep(1 / chunks_per_s)
        for run in runs:
            if error := run.exception():
                offered.errors.append(f"{type(error).__name__}: {error}")
            else:
                offered.chunks += 1
    for poller in polling:
        poller.join()
    return offered


def _poll(api_url: str, pool: str, every_s: float, stop_at: float, offered: Offered) -> None:
    with httpx.Client(timeout=30) as client:
        while time.time() < stop_at:
            started_s = time.monotonic()
            try:
                client.post(f"{api_url}/work_pools/{pool}/get_scheduled_flow_runs", json={}).raise_for_status()
                offered.polls += 1
            except httpx.HTTPError as error:
                offered.errors.append(f"poll: {error!r}")
            time.sleep(max(0.0, every_s - (time.monotonic() - started_s)))

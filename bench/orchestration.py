"""Measure the overhead of Prefect per chunk: the same code runs as a plain function and as a flow, on the same videos.

    python bench/orchestration.py [--videos 50] [--rounds 3]

Both variants claim, fetch, score, write and commit with the same Postgres, object store and suite, in one process, one
after the other. First their shards are compared; they must have the same rows. CPU time is that of this process, and
separately that of the Prefect server. Scoring on a GPU takes the same time in both variants. So the overhead is given
in seconds per chunk, and as a share of 200 s, which a GPU needs for 50 videos at 25 segments per second. The script
prints a table and writes bench/out/orchestration.json.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
import psutil

GPU_CHUNK_S = 200.0
OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Cost:
    """The wall time and CPU time of one chunk, and the CPU time of the Prefect server."""

    wall_s: float
    cpu_s: float
    server_cpu_s: float


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        os.chmod(folder, 0o711)  # noqa: PTH101 - the account of Postgres must be able to read the folder
        with stack(Path(folder)) as (server, environment):
            os.environ.update(environment)
            plain, flow, read_rows = arms(options.videos)
            plain(), flow()  # warm-up: imports, models, connections
            assert read_rows(0).equals(read_rows(1)), "the arms disagree"
            costs = {"plain loop": [], "Prefect flow": []}
            for _ in range(options.rounds):
                costs["plain loop"].append(measure(plain, server))
                costs["Prefect flow"].append(measure(flow, server))
    report(costs, options.videos)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


@contextmanager
def stack(folder: Path) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    from validation.local.stack import LocalStack

    with LocalStack(folder) as running:
        yield (
            psutil.Process(running.prefect.pid),
            running.environment() | {"VFLEET_SUITE": "vad", "PREFECT_LOGGING_LEVEL": "ERROR", "WORKER_ID": "bench"},
        )


def arms(count: int) -> tuple[Callable[[], object], Callable[[], object], Callable[[int], pl.DataFrame]]:
    """Return three functions: run a chunk plainly, run a chunk as a flow, and read the rows of a shard by its number.

    Each run of a chunk starts with a new queue of the same videos.
    """
    from blocks.box import open_box_services
    from flows.validate import validate_chunk
    from validation.domain import WorkerProfile
    from validation.ledger.engine import open_engine
    from validation.ledger.migrate import migrate
    from validation.ledger.queries import read_committed_shards
    from validation.ledger.workers import register_worker
    from validation.settings import load_settings
    from validation.shards.reader import read_shard
    from validation.storage.store import get_bytes, open_store, put_if_absent
    from validation.worker.chunk.context import run_chunk

    settings = load_settings()
    engine = open_engine(settings.database_url.get_secret_value())
    migrate(engine)
    register_worker(engine, WorkerProfile("bench", config={"instance": "bench"}))
    videos = sample_videos(count)
    store = open_store(settings.source_url, settings)
    for video, tar in videos:
        put_if_absent(store, f"{video.video_id}.tar", tar)

    def refill() -> None:
        from sqlalchemy import text

        from validation.ledger.seed import seed_videos

        with engine.begin() as connection:
            connection.execute(text("TRUNCATE video_queue"))
        seed_videos(engine, [video for video, _ in videos])

    def plain() -> object:
        refill()
        return run_chunk(open_box_services(), size=count)

    def flow() -> object:
        refill()
        return validate_chunk(size=count)

    def read_rows(which: int) -> pl.DataFrame:
        shards = sorted(read_committed_shards(engine), key=lambda shard: shard.shard_key)
        return read_shard(get_bytes(open_store(settings.results_url, settings), shards[which].shard_key))

    return plain, flow, read_rows


def sample_videos(count: int) -> list:
    """Make ``count`` videos of four real segments each. Return pairs of a video and its tar."""
    from validation.corpus.pack import pack_video
    from validation.domain import Video
    from validation.local.sample_corpus import load_clips

    clips = [clip for name, clip in sorted(load_clips().items()) if name.startswith("en_librivox")]
    videos = [Video(f"bench{n:04d}", "en", len(clips)) for n in range(count)]
    return [(video, pack_video(video, clips)) for video in videos]


def measure(arm: Callable[[], object], server: psutil.Process) -> Cost:
    wall, cpu, server_cpu = time.perf_counter(), time.process_time(), sum(server.cpu_times()[:2])
    arm()
    took = time.perf_counter() - wall, time.process_time() - cpu
    time.sleep(2)  # the server records task runs in batches a second later
    return Cost(*took, sum(server.cpu_times()[:2]) - server_cpu)


def report(costs: dict[str, list[Cost]], videos: int) -> None:
    print(f"{videos} videos per chunk, suite `vad`, median of {len(next(iter(costs.values())))}")
    print(f"{'arm':14} {'wall s':>8} {'CPU s':>8} {'Prefect server CPU s':>21}")
    medians = {
        arm: {k: statistics.median(asdict(c)[k] for c in runs) for k in asdict(runs[0])} for arm, runs in costs.items()
    }
    for arm, cost in medians.items():
        print(f"{arm:14} {cost['wall_s']:8.2f} {cost['cpu_s']:8.2f} {cost['server_cpu_s']:21.2f}")
    extra = medians["Prefect flow"]["wall_s"] - medians["plain loop"]["wall_s"]
    print(f"orchestration: {extra:.2f} s per chunk, {extra / GPU_CHUNK_S:.1%} of a GPU's chunk of {GPU_CHUNK_S:.0f} s")
    OUT.mkdir(exist_ok=True)
    raw = {arm: [asdict(cost) for cost in runs] for arm, runs in costs.items()}
    (OUT / "orchestration.json").write_text(json.dumps({"videos": videos, "raw": raw, "median": medians}, indent=1))


if __name__ == "__main__":
    main()

"""How long scoring stands still between chunks, with one flow run a box and with two.

    python bench/gap.py [--chunks 6]

A real worker, Prefect server, Postgres and object store; chunks of four videos of four real segments, suite `vad`. For
each arm: from the first to the last score-group task of the worker, the time in which none was running, a gap a chunk.
Prints a table and writes bench/out/gap.json. On a CPU the two runs share cores, so their scoring also slows each
other; what counts here is whether somebody is scoring at all.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from orchestration import OUT, sample_videos

from validation.corpus.store import open_store, put_once
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.seed import seed_videos
from validation.ledger.views import read_view
from validation.local.demo import applied
from validation.local.prefect_client import PrefectClient
from validation.local.process import poll_until
from validation.local.stack import LocalStack
from validation.local.worker import WorkerProcess
from validation.settings import Settings

CHUNK_VIDEOS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=6)
    chunks = parser.parse_args().chunks
    gaps = {limit: run_arm(limit, chunks) for limit in (1, 2)}
    print(f"{chunks} chunks of {CHUNK_VIDEOS} videos\n{'flow runs a box':>16} {'gaps s':>30} {'mean s':>8}")
    for limit, found in gaps.items():
        print(f"{limit:16} {' '.join(f'{gap:.1f}' for gap in found):>30} {sum(found) / (chunks - 1):8.2f}")
    OUT.mkdir(exist_ok=True)
    (OUT / "gap.json").write_text(json.dumps({"chunks": chunks, "gaps_s": gaps}))


def run_arm(limit: int, chunks: int) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        Path(folder).chmod(0o711)  # the cluster's account must reach its files
        with LocalStack(Path(folder), report=lambda _: None) as stack, applied(stack.environment()):
            return measure(stack, Path(folder), limit, chunks)


def measure(stack: LocalStack, folder: Path, limit: int, chunks: int) -> list[float]:
    settings, engine, prefect = Settings(), open_engine(stack.postgres.libpq_url()), PrefectClient(stack.environment())
    migrate(engine)
    videos = sample_videos(chunks * CHUNK_VIDEOS)
    for video, tar in videos:
        put_once(open_store(settings.source_url, settings), f"{video.video_id}.tar", tar)
    seed_videos(engine, [video for video, _ in videos])
    prefect.deploy_all()
    for _ in range(chunks):
        prefect.run("deployment", "run", "validate-chunk/validate-chunk", "--param", f"size={CHUNK_VIDEOS}")
    box = WorkerProcess(folder, stack.environment() | {"VFLEET_SUITE": "vad"}, name="bench", limit=limit).launch()
    try:
        assert poll_until(lambda: read_view(engine, "queue_progress")[0]["done_share"] == 1, within_s=600), (
            box.log_tail()
        )
    finally:
        box.stop()
    time.sleep(5)  # the server records task runs in batches
    return find_gaps(prefect.task_runs("score group"))


def find_gaps(runs: Sequence[dict]) -> list[float]:
    """The stretches between the first start and the last end in which no task ran."""
    spans = sorted((datetime.fromisoformat(r["start_time"]), datetime.fromisoformat(r["end_time"])) for r in runs)
    gaps, busy_until = [], spans[0][1]
    for start, end in spans[1:]:
        if start > busy_until:
            gaps.append((start - busy_until).total_seconds())
        busy_until = max(busy_until, end)
    return gaps


if __name__ == "__main__":
    main()

"""Measure the idle time of scoring between chunks, with one flow run per box and with two.

    python bench/gap.py [--chunks 5] [--videos 6] [--suite local]

The benchmark uses a real worker, Prefect server, Postgres and object store, videos of four real segments, and real
weights. For each number of flow runs it measures the time in which no score-group task ran, between the first and the
last of these tasks. It prints a table and writes bench/out/gap.json.

On a CPU, two flow runs share the cores and slow each other down. The benchmark measures only whether any task is
scoring. A second flow run hides the start of a process (6 s here) only if scoring takes longer than the start. With
`--suite vad` it does not.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from orchestration import OUT, sample_videos

from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.queries import read_view
from validation.ledger.seed import seed_videos
from validation.local.demo import replaced_environment
from validation.local.prefect_client import PrefectClient
from validation.local.process import poll_until
from validation.local.stack import LocalStack, WorkerProcess
from validation.settings import Settings
from validation.storage.store import open_store, put_if_absent


class Idleness(NamedTuple):
    """The gaps without a scoring task between the first and the last one, and the total time of scoring."""

    gaps_s: list[float]
    scoring_s: float

    def share(self) -> float:
        """Return the idle time as a share of the whole time."""
        return sum(self.gaps_s) / (sum(self.gaps_s) + self.scoring_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=5)
    parser.add_argument("--videos", type=int, default=6, help="videos per chunk")
    parser.add_argument("--suite", default="local")
    options = parser.parse_args()
    arms = {limit: run_arm(limit, options) for limit in (1, 2)}
    print(f"{options.chunks} chunks of {options.videos} videos, suite `{options.suite}`")
    print(
        f"{'flow runs per box':>17} {'gap per chunk s':>16} {'longest s':>10} {'scoring per chunk s':>20} {'idle':>6}"
    )
    for limit, idle in arms.items():
        gap_s, longest_s = sum(idle.gaps_s) / (options.chunks - 1), max(idle.gaps_s, default=0.0)
        print(f"{limit:17} {gap_s:16.2f} {longest_s:10.2f} {idle.scoring_s / options.chunks:20.2f} {idle.share():6.1%}")
    OUT.mkdir(exist_ok=True)
    results = {limit: idle._asdict() for limit, idle in arms.items()}
    (OUT / "gap.json").write_text(json.dumps(vars(options) | {"arms": results}))


def run_arm(limit: int, options: argparse.Namespace) -> Idleness:
    with tempfile.TemporaryDirectory(prefix="vfleet-bench-") as folder:
        Path(folder).chmod(0o711)  # the account of Postgres must be able to read the folder
        with LocalStack(Path(folder), report=lambda _: None) as stack, replaced_environment(stack.environment()):
            return measure(stack, Path(folder), limit, options)


def measure(stack: LocalStack, folder: Path, limit: int, options: argparse.Namespace) -> Idleness:
    settings, engine, prefect = Settings(), open_engine(stack.postgres.libpq_url()), PrefectClient(stack.environment())
    migrate(engine)
    videos = sample_videos(options.chunks * options.videos)
    for video, tar in videos:
        put_if_absent(open_store(settings.source_url, settings), f"{video.video_id}.tar", tar)
    seed_videos(engine, [video for video, _ in videos])
    prefect.deploy_all()
    for _ in range(options.chunks):
        prefect.run("deployment", "run", "validate-chunk/validate-chunk", "--param", f"size={options.videos}")
    box = WorkerProcess(
        folder, stack.environment() | {"VFLEET_SUITE": options.suite}, name="bench", limit=limit
    ).launch()
    try:
        assert poll_until(lambda: read_view(engine, "queue_progress")[0]["done_share"] == 1, within_s=600), (
            box.log_tail()
        )
    finally:
        box.stop()
    time.sleep(5)  # the server records task runs in batches
    return find_idleness(prefect.task_runs("score group"))


def find_idleness(runs: Sequence[dict]) -> Idleness:
    """Return the gaps without a running task between the first start and the last end, and the time with a task."""
    spans = sorted((datetime.fromisoformat(r["start_time"]), datetime.fromisoformat(r["end_time"])) for r in runs)
    gaps, busy_until = [], spans[0][1]
    for start, end in spans[1:]:
        if start > busy_until:
            gaps.append((start - busy_until).total_seconds())
        busy_until = max(busy_until, end)
    return Idleness(gaps, (busy_until - spans[0][0]).total_seconds() - sum(gaps))


if __name__ == "__main__":
    main()

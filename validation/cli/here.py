"""`vfleet run-chunk | demo`: the job done on this machine."""

import argparse
from pathlib import Path

from validation.cli import Subparsers


def add_here_commands(commands: Subparsers) -> None:
    chunk = commands.add_parser("run-chunk", help="validate one chunk here and now, without Prefect")
    chunk.add_argument("--size", type=int, default=None, help="videos to claim (default: PARQUET_SHARD_SIZE)")
    chunk.set_defaults(command=run_one_chunk)

    demo = commands.add_parser("demo", help="do the whole job on this machine, on real speech")
    demo.add_argument("--folder", type=Path, default=Path(".local"), help="where everything is kept")
    demo.add_argument("--keep", action="store_true", help="leave the stack and the Prefect UI up until Ctrl-C")
    demo.set_defaults(command=run_demo)


def run_one_chunk(options: argparse.Namespace) -> None:
    from validation.settings import load_settings
    from validation.worker.chunk.context import run_chunk
    from validation.worker.chunk.open import open_chunk_context

    done = run_chunk(open_chunk_context(load_settings()), size=options.size)
    if done is None:
        print("nothing to claim: no transcribed video is waiting")
        return
    print(f"{done.videos_validated} videos validated ({done.segments} segments), {done.videos_failed} failed")


def run_demo(options: argparse.Namespace) -> int:
    from validation.local.demo import run_demo as run

    return run(options.folder, keep=options.keep)

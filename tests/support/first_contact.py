"""Run the demo on a few videos of its corpus, in the place that `.ci/first-contact` prepares.

python -m tests.support.first_contact FOLDER
"""

import os
import subprocess
import sys
from pathlib import Path

from validation.exit_codes import ExitCode
from validation.local import demo
from validation.local.sample_corpus import SampleCorpus, build_sample_corpus

VIDEOS = ("ginti", "pangramas", "labelled-hindi")
"""Two videos without a fault, and one with a wrong language label."""
COMMANDS = {"--version": 0, "--help": 0, "inspect --help": 0, "status": ExitCode.BAD_INPUT}
"""Exit codes of commands. `status` has no DATABASE_URL here."""
PROJECT = Path(__file__).resolve().parents[2]


def build_short_corpus() -> SampleCorpus:
    """Build the part of the sample corpus that ``VIDEOS`` names."""
    corpus = build_sample_corpus()
    return SampleCorpus(
        tuple(video for video in corpus.videos if video.queued.video_id in VIDEOS),
        tuple(fault for fault in corpus.faults if fault.video_id in VIDEOS),
    )


def main() -> int:
    assert Path(demo.__file__).is_relative_to(PROJECT), "the code of another folder runs"
    print(f"account {os.getuid()}, folder {PROJECT}, encoding {sys.stdout.encoding}, zone {os.environ.get('TZ')}")  # noqa: T201
    for arguments, code in COMMANDS.items():
        command = [sys.executable, "-m", "validation.cli.main", *arguments.split()]
        run = subprocess.run(command, capture_output=True, check=False)
        assert run.returncode == code, (arguments, run.returncode, run.stderr.decode())
        assert b"Traceback" not in run.stderr, run.stderr.decode()
    demo.build_sample_corpus = build_short_corpus
    return demo.run_demo(Path(sys.argv[1]), keep=False)


if __name__ == "__main__":
    sys.exit(main())

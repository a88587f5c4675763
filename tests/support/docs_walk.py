"""Run every `sh` and `sql` block of the pages, in order, against the embedded stack and fakes. `make docs-check`.

python tests/support/docs_walk.py FOLDER

Blocks of the kind `sh elsewhere` are not run. Where such a block starts a box with Docker, a worker is started instead,
with the login `box` and the key that `vfleet box add` printed.
"""

# ruff: noqa: T201 - prints a report
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from simulation.fake_cloudflare import FakeCloudflare
from simulation.fake_vast.service import EmbeddedVast
from tests.support.doc_pages import Block, read_blocks
from validation.local.demo import replaced_environment
from validation.local.prefect_client import PROJECT
from validation.local.sample_corpus import CLIPS, build_sample_corpus
from validation.local.stack import LocalStack, WorkerProcess
from validation.settings import Settings
from validation.storage.store import open_store, put_if_absent

VIDEOS = ("ginti", "pangramas")
OWNER_SECTIONS = ("1.", "2.", "3.")
"""Sections of deploy.md; everything later is done with the login `control`."""
PASSWORDS = {"control": "draw one", "box": "draw another"}
"""As the page writes them."""
COMMAND_TIMEOUT_S = 600


@dataclass
class Walk:
    """A reader at the control machine who runs the pages."""

    folder: Path
    owner_url: str
    environment: dict[str, str]
    undo: ExitStack
    box_variables: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def run_page(self, page: str) -> None:
        """Run the blocks of a page in their order."""
        for block in read_blocks(page):
            if page == "operate.md" or not block.heading.startswith(OWNER_SECTIONS):
                self.environment["DATABASE_URL"] = login_address(self.owner_url, "control")
            if block.heading.startswith("7."):
                self.prepare_operations()
            match block.kind:
                case "sql" if page == "deploy.md":
                    self.run_sql(block)
                case "sh":
                    for line in block.lines:
                        self.run(line)
                case "sh elsewhere" if "docker run" in block.body:
                    self.start_box()

    def recreate_logins(self) -> None:
        """Create the logins again, because deploy.md ends with the shutdown and operate.md needs a running fleet."""
        (logins,) = [block for block in read_blocks("deploy.md") if "CREATE ROLE control" in block.body]
        self.run_sql(logins)

    def prepare_operations(self) -> None:
        """Insert the rows that the commands of operate.md need."""
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            if connection.execute("SELECT FROM video_queue WHERE video_id = 'later-1'").fetchone() is None:
                connection.execute(OPERATIONS_SQL)

    def run_sql(self, block: Block) -> None:
        with psycopg.connect(self.owner_url, autocommit=True) as connection:
            connection.execute(block.body)
        print(f"-- {block.lines[0]} ...")

    def run(self, line: str) -> None:
        print(f"$ {line}", flush=True)
        if line.endswith("&"):
            self.start_control()
            return
        began = time.monotonic()
        done = subprocess.run(["bash", "-euc", line], cwd=self.folder, env=os.environ | self.environment, check=False,
                              capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)  # fmt: skip
        output = (done.stdout + done.stderr).strip()
        print("\n".join(f"  {row}" for row in output.splitlines()[-4:]))
        print(f"  [{done.returncode}, {time.monotonic() - began:.0f} s]", flush=True)
        self.box_variables |= dict(re.findall(r"^(WORKER_ID|VFLEET_BOX_KEY)=(.+)$", done.stdout, re.MULTILINE))
        if done.returncode != 0:
            self.failed.append(f"{line}: exit {done.returncode}\n{output[-2000:]}")

    def start_control(self) -> None:
        worker = WorkerProcess(self.folder, self.environment, name="control-1", pool="control", kind="process")
        self.undo.callback(worker.launch().stop)
        self.wait_for_control()

    def wait_for_control(self) -> None:
        """Wait until the server knows the control worker, as a reader does who types the next command."""
        ends = time.monotonic() + COMMAND_TIMEOUT_S
        while time.monotonic() < ends:
            done = subprocess.run(["vfleet", "doctor", "--json"], cwd=self.folder, env=os.environ | self.environment,
                                  check=False, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)  # fmt: skip
            results = [json.loads(line) for line in done.stdout.splitlines()]
            if any(result["check"] == "control worker" and result["status"] != "failed" for result in results):
                return
            time.sleep(1)

    def start_box(self) -> None:
        kept = ("PREFECT_API_URL", "R2_ENDPOINT_URL", "VFLEET_SOURCE_URL", "VFLEET_RESULTS_URL", "PATH", "NO_PROXY")
        environment = {name: self.environment[name] for name in kept if name in self.environment}
        environment |= {
            **self.box_variables,
            "DATABASE_URL": login_address(self.owner_url, "box"),
            "VFLEET_SUITE": self.environment["VFLEET_SUITE"],
        }
        box = WorkerProcess(self.folder, environment, name=self.box_variables["WORKER_ID"])
        self.undo.callback(box.launch().stop)
        print(f"(a box starts as {self.box_variables['WORKER_ID']})")


OPERATIONS_SQL = """
    INSERT INTO video_queue (video_id, status, language, validation_not_before)
    SELECT 'later-' || n, 'done', 'hi', now() + interval '1 day' FROM generate_series(1, 5000) n;
    INSERT INTO fleet_blacklist VALUES ('machine', 12345, 'slow', 1, now(), now() + interval '1 day');
"""
"""Work for a hundred machines, that the one box here leaves alone; and the ban that operate.md lifts."""


def login_address(owner_url: str, name: str) -> str:
    """The address of a login that the page creates."""
    return make_url(owner_url).set(username=name, password=PASSWORDS[name]).render_as_string(False)


def upload(settings: Settings, folder: Path) -> None:
    """Upload the tars of a small corpus; write the manifest for section 3 and a folder of trusted clips."""
    store = open_store(settings.source_url, settings)
    rows = ["video_id,language,segment_count"]
    for video in build_sample_corpus().videos:
        if video.queued.video_id in VIDEOS and video.tar:
            put_if_absent(store, f"{video.queued.video_id}.tar", video.tar)
            rows.append(f"{video.queued.video_id},{video.queued.language},{video.queued.segment_count}")
    (folder / "videos.csv").write_text("\n".join(rows) + "\n")
    shutil.copytree(CLIPS, folder / "clips", dirs_exist_ok=True)


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    LocalStack(folder / "stack").erase()
    work = folder / "work"
    work.mkdir(exist_ok=True)
    with LocalStack(folder / "stack") as stack, EmbeddedVast(folder / "vast") as vast, FakeCloudflare() as cloudflare:
        environment = stack.environment() | vast.client_environment() | cloudflare.client_environment()
        environment |= {
            "R2_ACCESS_KEY_ID": cloudflare.parent_access_key_id,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CODE": str(PROJECT),
            "VFLEET_SUITE": "vad",  # the cheapest real answers
            "BOX_R2_ENDPOINT_URL": environment["R2_ENDPOINT_URL"],
            "BOX_PREFECT_API_URL": environment["PREFECT_API_URL"],
            "BOX_DATABASE_URL": login_address(stack.postgres.libpq_url(), "box"),
            "VFLEET_GATEWAY_TOKENS": str(work / "boxes.tokens"),
        }
        with replaced_environment(environment), ExitStack() as undo:
            upload(Settings(), work)
            walk = Walk(work, stack.postgres.libpq_url(), environment, undo)
            for page in ("deploy.md", "operate.md"):
                print(f"\n== {page}")
                if page == "operate.md":
                    walk.recreate_logins()
                walk.run_page(page)
    for failure in walk.failed:
        print(f"\nFAILED: {failure}")
    print(f"\n{len(walk.failed)} commands failed")
    return 1 if walk.failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))

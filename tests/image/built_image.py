"""Build the worker image, inspect it, and validate a chunk with the suite `local` in it.

    python tests/image/built_image.py FOLDER

`make image-check` runs it. It needs root, buildah and mmdebstrap (`apt-get install buildah crun mmdebstrap`), and is
skipped with a message without them. The base image is made from this machine's distribution, so no registry is needed.
It has this machine's certificates and PIP_INDEX_URL.
"""

# ruff: noqa: T201 - prints a report
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url

from validation.ledger.boxes import issue_box_key
from validation.ledger.engine import open_engine
from validation.ledger.migrate import migrate
from validation.ledger.queries import read_committed_shards
from validation.ledger.seed import seed_videos
from validation.local.demo import replaced_environment
from validation.local.prefect_client import PROJECT, PrefectClient
from validation.local.process import poll_until
from validation.local.sample_corpus import build_sample_corpus
from validation.local.stack import LocalStack
from validation.settings import Settings
from validation.storage.store import open_store, put_if_absent

BASE, IMAGE = "localhost/vfleet-base", "localhost/vfleet-worker"
REQUIRED_PROGRAMS = ("buildah", "mmdebstrap")
PLANTED_TOKEN = "hf_planted_Xq7Zt3"  # not a real token; it must be nowhere in the image
VIDEOS = ("ginti", "pangramas")
FROM_HOST = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


class Buildah:
    """buildah without a daemon, with all its files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        policy = folder / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._options = ["--root", str(folder / "storage"), "--runroot", str(folder / "run"), "--storage-driver",
                         "overlay"]  # fmt: skip
        self._policy = ["--signature-policy", str(policy)]

    def command(self, verb: str, *words: str) -> list[str]:
        trusting = self._policy if verb in {"build", "commit"} else []
        return ["buildah", *self._options, verb, *trusting, *words]

    def run(self, verb: str, *words: str, quiet: bool = True) -> str:
        done = subprocess.run(self.command(verb, *words), capture_output=quiet, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"buildah {verb} failed:\n{(done.stdout or '') + (done.stderr or '')}"[-4000:])
        return (done.stdout or "").strip()

    def has(self, image: str) -> bool:
        inspected = subprocess.run(self.command("inspect", "--type", "image", image), capture_output=True, check=False)
        return inspected.returncode == 0


def make_base(buildah: Buildah) -> None:
    """Make the base image from this machine's distribution, with Python."""
    if buildah.has(BASE):
        return
    tar = buildah.folder / "base.tar"
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    packages = "--include=python3,python3-venv,ca-certificates"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", packages, release, str(tar)], check=True)
    working = buildah.run("from", "scratch")
    buildah.run("add", "--quiet", working, str(tar), "/")
    if CERTIFICATES.exists():
        buildah.run("copy", "--quiet", working, str(CERTIFICATES), str(CERTIFICATES))
    variables = [word for name in FROM_HOST if name in os.environ for word in ("--env", f"{name}={os.environ[name]}")]
    buildah.run("config", *variables, working)
    buildah.run("commit", "--rm", working, BASE)
    tar.unlink()


def build(buildah: Buildah) -> float:
    """Build the image as an operator does, for a suite whose weights are in packages. Returns seconds."""
    began = time.monotonic()
    token = buildah.folder / "hf_token"
    token.write_text(PLANTED_TOKEN)
    arguments = {"BASE_IMAGE": BASE, "REQUIREMENTS": "local", "WEIGHTS": "", "SUITE": "local", "REVISION": "0123abc"}
    build_arguments = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    buildah.run(
        "build", "--isolation", "chroot", "--format", "docker", "--pull-never", "--layers", "--secret",
        f"id=hf_token,src={token}", *build_arguments, "--file", str(PROJECT / "Dockerfile.validation"), "--tag", IMAGE,
        str(PROJECT), quiet=False,
    )  # fmt: skip
    token.unlink()
    return time.monotonic() - began


def check_image(buildah: Buildah) -> list[str]:
    """List what is wrong in the image: user, labels, entrypoint, healthcheck, unwanted files, or the planted token."""
    inspected = buildah.run("inspect", "--type", "image", IMAGE)
    config = json.loads(inspected)["Docker"]["config"]
    wanted = {
        "User": "10001",
        "Entrypoint": ["tini", "--", "/app/deploy/image/entrypoint"],
        "Healthcheck": ["CMD", "/app/deploy/image/healthcheck"],
        "revision": "0123abc",
        "device": ["VFLEET_DEVICE=cuda"],
    }
    found = {
        "User": config["User"],
        "Entrypoint": config["Entrypoint"],
        "Healthcheck": config["Healthcheck"]["Test"],
        "revision": config["Labels"]["org.opencontainers.image.revision"],
        "device": [variable for variable in config["Env"] if variable.startswith("VFLEET_DEVICE=")],
    }
    wrong = [f"{name} is {found[name]}, not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if PLANTED_TOKEN in inspected:
        wrong.append("the token of the model hub is in the image's configuration or history")
    working = buildah.run("from", IMAGE)
    mount = buildah.run("mount", working)
    grep = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", PLANTED_TOKEN, mount],
        capture_output=True,
        text=True,
        check=False,
    )
    wrong += [f"the token of the model hub is in {path}" for path in grep.stdout.split()]
    wrong += [f"{name} is in the image" for name in (".git", "tests", ".local") if Path(mount, "app", name).exists()]
    buildah.run("umount", working)
    buildah.run("rm", working)
    return wrong


class Box:
    """A container of the image with its own entrypoint and user, on the network of this machine."""

    def __init__(self, buildah: Buildah, environment: dict[str, str]) -> None:
        self._buildah = buildah
        self.container = buildah.run("from", IMAGE)
        self._variables = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        self.log = buildah.folder / "box.log"

    def command(self, *words: str) -> list[str]:
        return self._buildah.command("run", "--isolation", "chroot", *self._variables, self.container, "--", *words)

    def start(self) -> None:
        entrypoint = ["tini", "--", "/app/deploy/image/entrypoint"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command(*entrypoint), stdout=log, stderr=log)

    def ask(self, *words: str) -> str:
        """Run a program in the container; returns its output, or its exit code and error."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip() if done.returncode == 0 else f"exit {done.returncode}: {done.stderr}"

    def init(self) -> psutil.Process:
        """The process tini, to which a container runtime sends signals."""
        inside = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in inside if child.name() == "tini")

    def stop(self) -> int:
        """Send SIGTERM as `docker stop` does; returns the exit code."""
        self.init().send_signal(signal.SIGTERM)
        return self.process.wait(timeout=200)

    def remove(self) -> None:
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.wait()
        self._buildah.run("rm", self.container)


def log_in_box(url: str) -> str:
    """Create a login with the role of a box and no other; returns its address."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE box LOGIN PASSWORD 'box' IN ROLE validation_worker")
    return make_url(url).set(username="box", password="box").render_as_string(hide_password=False)


def validate_chunk(buildah: Buildah, folder: Path) -> list[str]:
    """Run a box of the image against the embedded stack until its chunk is committed, then stop it."""
    wrong = []
    with LocalStack(folder, report=print) as stack, replaced_environment(stack.environment()), ExitStack() as undo:
        url = stack.postgres.libpq_url()
        engine, settings = open_engine(url), Settings()
        migrate(engine)
        corpus = [video for video in build_sample_corpus().videos if video.queued.video_id in VIDEOS]
        store = open_store(settings.source_url, settings)
        for video in corpus:
            put_if_absent(store, settings.source_key.format(video_id=video.queued.video_id), video.tar or b"")
        seed_videos(engine, [video.queued for video in corpus])
        prefect = PrefectClient(stack.environment(), home="/app")
        prefect.deploy_all()
        prefect.run("deployment", "run", "validate-chunk/validate-chunk")
        environment = stack.environment() | {
            "DATABASE_URL": log_in_box(url),
            "VFLEET_BOX_KEY": issue_box_key(engine, "val-1"),
        }
        environment |= {"WORKER_ID": "val-1", "PREFECT_WORKER_QUERY_SECONDS": "2"}
        box = Box(
            buildah, environment | {"VFLEET_DEVICE": "cpu"}
        )  # this machine has no GPU, which the image requires by default
        undo.callback(box.remove)
        print("user and code inside:", box.ask("sh", "-c", "id -u; touch /app/x 2>&1; vfleet --help | head -1"))
        began = time.monotonic()
        box.start()
        done = poll_until(lambda: bool(read_committed_shards(engine)) or box.process.poll() is not None, within_s=400)
        if not (done and read_committed_shards(engine)):
            return [f"no chunk was committed; the log of the box:\n{box.log.read_text()[-6000:]}"]
        print(f"a chunk committed {time.monotonic() - began:.0f} s after the start of the box")
        print("healthcheck:", health := box.ask("/app/deploy/image/healthcheck") or "healthy")
        wrong += [] if health == "healthy" else [f"the healthcheck says {health}"]
        code = box.stop()
        with engine.connect() as connection:
            status = connection.exec_driver_sql("SELECT status FROM worker_validators").scalar()
        print(f"SIGTERM: exit {code}, worker {status}")
        wrong += (
            []
            if (code, status) == (0, "offline")
            else [f"it exited with {code}, {status}:\n{box.log.read_text()[-3000:]}"]
        )
        engine.dispose()
    return wrong


def main(folder: Path) -> int:
    missing = [program for program in REQUIRED_PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        print(f"skipped: building the image needs {', '.join(missing) or 'root'}")
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    buildah = Buildah(folder.resolve())
    make_base(buildah)
    print(f"built in {build(buildah):.0f} s")
    wrong = check_image(buildah)
    with tempfile.TemporaryDirectory() as stack:
        Path(stack).chmod(0o711)
        wrong += validate_chunk(buildah, Path(stack))
    for problem in wrong:
        print(f"wrong: {problem}")
    if not wrong:
        print("the image is right: built, started as its own user, a chunk committed, drained")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

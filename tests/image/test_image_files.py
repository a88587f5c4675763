"""What can be known of the image without building it. `make image-check` builds it and drives a chunk through it."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from validation.errors import BadInput
from validation.hardware.gpu import MIN_DRIVERS
from validation.models.weights import WeightsRefused
from validation.models.weights_folder import read_commits, read_folder_catalogue, read_lock
from validation.vast.offer_filter import OfferFilter
from validation.worker.bootstrap import WORKER

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile.validation").read_text()
IMAGE = ROOT / "deploy/image"
LOCK = dict(
    line.split(" ;")[0].split("==") for line in (ROOT / "constraints.lock").read_text().splitlines() if "==" in line
)


def load_program(name: str):
    spec = importlib.util.spec_from_file_location(name, IMAGE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dockerfile_is_clean():
    """hadolint finds nothing; what it is told to overlook has its reason beside it."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile.validation"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_the_pair_that_the_lock_pins():
    """Torch and its CUDA in the base are those that the lock's wheels are built for, and onnxruntime-gpu fits them."""
    torch, cuda, cudnn = re.search(r"pytorch:([\d.]+)-cuda([\d.]+)-cudnn(\d+)-runtime", DOCKERFILE).groups()
    assert torch == LOCK["torch"]
    assert LOCK["cuda-toolkit"].startswith(f"{cuda}.")
    assert LOCK["nvidia-cudnn-cu13"].startswith(f"{cudnn}.")
    assert tuple(map(int, LOCK["onnxruntime-gpu"].split(".")[:2])) >= (1, 27)  # the first for CUDA 13


def test_only_machines_that_run_the_cuda_of_the_image_are_rented():
    """What the base brings, what an offer must bear and what a driver is held against are one version."""
    cuda = re.search(r"pytorch:[\d.]+-cuda([\d.]+)-", DOCKERFILE)[1]
    assert OfferFilter().min_cuda == float(cuda)
    least = MIN_DRIVERS[int(float(cuda))]
    assert f"driver of {least.partition('.')[0]} or newer" in DOCKERFILE


def test_the_token_of_the_hub_is_a_secret_of_one_step():
    """It is no build argument and no variable: both would stand in the image."""
    told = re.findall(r"^(?:ARG|ENV|    )\s*(\w+)=", DOCKERFILE, re.MULTILINE)
    assert len(told) >= 10
    assert not [name for name in told if re.search(r"token|secret|key", name, re.IGNORECASE)]
    assert DOCKERFILE.count("--mount=type=secret,id=hf_token") == 1


def test_the_image_demands_a_card_unless_it_is_told_otherwise():
    """A container that is started by hand with nothing but its own settings never computes on the CPU unnoticed."""
    told = re.search(r"^ENV (?:.*\\\n)+.*$", DOCKERFILE, re.MULTILINE)[0]
    assert "VFLEET_DEVICE=cuda" in told.split()


def test_the_image_installs_what_the_project_asks_for():
    """The layer of dependencies is made of the same list, so code can change without it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    done = subprocess.run(
        [sys.executable, IMAGE / "list_requirements.py", "gpu,models"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = [*project["dependencies"], *(r for e in ("gpu", "models") for r in project["optional-dependencies"][e])]
    assert done.stdout.splitlines() == wanted


def test_words_replace_the_box():
    """`docker run IMAGE vfleet ...` runs that; without words it is a box, with the worker that the entrypoint names."""
    entrypoint = IMAGE / "entrypoint"
    said = subprocess.run([entrypoint, "echo", "two words"], capture_output=True, text=True, check=True)
    assert said.stdout == "two words\n"
    worker = " ".join(WORKER[WORKER.index("worker") :])
    assert worker.removesuffix(" --with-healthcheck") in " ".join(entrypoint.read_text().replace("#", "").split())


def test_only_what_the_image_is_made_of_goes_into_it():
    """An allow-list: a file of secrets that lies beside the code stays out."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "blocks", "flows", "sql", "tasks", "validation", "deploy/image", "pyproject.toml", "constraints.lock",
        "README.md", "LICENSE",
    }  # fmt: skip


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that serves what every model requires, and a fetcher with a lock of its own."""
    asked = []

    def snapshot_download(source, *, revision, local_dir, token):
        asked.append((source, revision, token))
        (entry,) = [entry for entry in read_folder_catalogue().values() if entry.source == source]
        for name in entry.required:
            path = Path(local_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{source} {name}")

    class Api:
        """Its branches move with every question."""

        def __init__(self, token):
            pass

        def model_info(self, source, *, revision):
            assert revision == "main"
            branch.append(f"{len(branch):040x}")
            return SimpleNamespace(sha=branch[-1])

    branch: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    program = load_program("fetch_weights")
    monkeypatch.setattr(program, "LOCK", tmp_path / "weights.lock")
    program.asked = asked
    return program


MODELS = ["mms-lid-256", "voxlingua107-ecapa"]


def test_weights_are_held_to_a_lock_that_was_written_before(hub, tmp_path):
    """Written once where they are trusted; from then on other bytes are refused, by name."""
    with pytest.raises(BadInput, match="make weights"):
        hub.fetch(tmp_path / "none", MODELS, token_file=None, write_new_lock=False)
    token = tmp_path / "token"
    token.write_text("hf_x\n")
    hub.fetch(tmp_path / "trusted", MODELS, token_file=token, write_new_lock=True)
    hub.fetch(tmp_path / "image", MODELS, token_file=token, write_new_lock=False)
    assert (tmp_path / "image/weights.lock").read_text() == hub.LOCK.read_text()
    assert {token for _, _, token in hub.asked} == {"hf_x"}
    commits = [commit for _, commit, _ in hub.asked]
    assert commits[:2] == commits[2:] == list(read_commits(hub.LOCK).values()) == [f"{n:040x}" for n in range(2)]

    (locked, *_) = read_lock(hub.LOCK).values()
    hub.LOCK.write_text(hub.LOCK.read_text().replace(locked[:8], "00000000", 1))
    with pytest.raises(WeightsRefused):
        hub.fetch(tmp_path / "again", MODELS, token_file=token, write_new_lock=False)


def test_a_suite_whose_packages_bring_its_weights_needs_no_lock(hub, tmp_path):
    """Nothing is asked of the hub."""
    hub.fetch(tmp_path, [], token_file=None, write_new_lock=False)
    assert hub.asked == []

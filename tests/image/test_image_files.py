"""The files of the image, without building it. `make image-check` builds it and validates a chunk in it."""

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
from validation.models.suites import SUITES
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
KNOWN_CLIPS = {name for spec in SUITES.values() for name in spec.known_clips}
"""Speech that a suite must recognise before it serves."""


def load_program(name: str):
    """Import a program of deploy/image."""
    spec = importlib.util.spec_from_file_location(name, IMAGE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dockerfile_passes_hadolint():
    """Each ignored rule has its reason beside it."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile.validation"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_base_image_matches_the_locked_torch_and_cuda():
    """Torch, CUDA and cuDNN of the base are those of constraints.lock, and onnxruntime-gpu supports them."""
    torch, cuda, cudnn = re.search(r"pytorch:([\d.]+)-cuda([\d.]+)-cudnn(\d+)-runtime", DOCKERFILE).groups()
    assert torch == LOCK["torch"]
    assert LOCK["cuda-toolkit"].startswith(f"{cuda}.")
    assert LOCK["nvidia-cudnn-cu13"].startswith(f"{cudnn}.")
    assert tuple(map(int, LOCK["onnxruntime-gpu"].split(".")[:2])) >= (1, 27)  # the first for CUDA 13


def test_offer_filter_requires_the_cuda_of_the_image():
    """The base image, the offer filter and the driver check name one CUDA version."""
    cuda = re.search(r"pytorch:[\d.]+-cuda([\d.]+)-", DOCKERFILE)[1]
    assert OfferFilter().min_cuda == float(cuda)
    min_driver = MIN_DRIVERS[int(float(cuda))]
    assert f"driver of {min_driver.partition('.')[0]} or newer" in DOCKERFILE


def test_hub_token_is_a_build_secret_of_one_step():
    """A build argument or variable would remain in the image."""
    variables = re.findall(r"^(?:ARG|ENV|    )\s*(\w+)=", DOCKERFILE, re.MULTILINE)
    assert len(variables) >= 10
    assert not [name for name in variables if re.search(r"token|secret|key", name, re.IGNORECASE)]
    assert DOCKERFILE.count("--mount=type=secret,id=hf_token") == 1


def test_image_requires_a_gpu_by_default():
    """A container without further settings never computes on its CPU unnoticed."""
    variables = re.search(r"^ENV (?:.*\\\n)+.*$", DOCKERFILE, re.MULTILINE)[0]
    assert "VFLEET_DEVICE=cuda" in variables.split()


@pytest.mark.parametrize(("lock", "extras"), [("gpu", ("gpu", "models")), ("local", ("local",))])
def test_image_installs_requirements_by_their_hashes(lock, extras):
    """Every requirement has hashes and the version of constraints.lock; torch and its CUDA packages are in the base."""
    entries = re.split(r"\n(?=\S)", (IMAGE / f"requirements-{lock}.lock").read_text().strip())
    pinned = {entry.split("==")[0]: re.search(r"==([^ ;]+)", entry)[1] for entry in entries}
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert {name: version for name, version in pinned.items() if LOCK.get(name, version) != version} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    names = {re.split(r"[\[<>=!~ ]", each)[0].lower().replace(".", "-") for each in wanted} - {"torch"}
    assert names | {"hatchling", "editables", "faster-whisper"} <= pinned.keys()
    assert "--require-hashes --no-deps" in DOCKERFILE
    assert DOCKERFILE.count("pip install") == 2


def test_words_replace_the_box():
    """`docker run IMAGE vfleet ...` runs that; without words it is a box, with the worker that the entrypoint names."""
    entrypoint = IMAGE / "entrypoint"
    done = subprocess.run([entrypoint, "echo", "two words"], capture_output=True, text=True, check=True)
    assert done.stdout == "two words\n"
    worker = " ".join(WORKER[WORKER.index("worker") :])
    assert worker.removesuffix(" --with-healthcheck") in " ".join(entrypoint.read_text().replace("#", "").split())


def test_build_context_is_an_allow_list():
    """A file of secrets beside the code is not copied into the image."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        "blocks", "flows", "sql", "tasks", "validation", "deploy/image", "pyproject.toml", "constraints.lock",
        "README.md", "LICENSE", *(f"validation/local/clips/{name}.flac" for name in KNOWN_CLIPS),
    }  # fmt: skip


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A fake model hub with every required file, and the program with a lock of its own."""
    requests, ignored, failures = [], [], []

    def snapshot_download(source, *, revision, local_dir, token, ignore_patterns):
        requests.append((source, revision, token))
        ignored.extend(ignore_patterns)
        (entry,) = [entry for entry in read_folder_catalogue().values() if entry.source == source]
        for name in entry.required:
            path = Path(local_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{source} {name}")
            if failures:
                raise failures.pop()

    class HubApi:
        """The hub's API; its branch moves on with each request."""

        def __init__(self, token):
            pass

        def model_info(self, source, *, revision):
            assert revision == "main"
            branch.append(f"{len(branch):040x}")
            return SimpleNamespace(sha=branch[-1])

    branch: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", HubApi)
    program = load_program("fetch_weights")
    monkeypatch.setattr(program, "LOCK", tmp_path / "weights.lock")
    program.requests = requests
    program.ignored, program.failures = ignored, failures
    return program


MODELS = ["mms-lid-256", "voxlingua107-ecapa"]


def test_downloaded_weights_must_match_the_lock(hub, tmp_path):
    """The lock is written once on a trusted machine; later downloads with other bytes are refused by name."""
    with pytest.raises(BadInput, match="make weights"):
        hub.fetch(tmp_path / "none", MODELS, token_file=None, write_new_lock=False)
    token = tmp_path / "token"
    token.write_text("hf_x\n")
    hub.fetch(tmp_path / "trusted", MODELS, token_file=token, write_new_lock=True)
    hub.fetch(tmp_path / "image", MODELS, token_file=token, write_new_lock=False)
    assert (tmp_path / "image/weights.lock").read_text() == hub.LOCK.read_text()
    assert {token for _, _, token in hub.requests} == {"hf_x"}
    commits = [commit for _, commit, _ in hub.requests]
    assert commits[:2] == commits[2:] == list(read_commits(hub.LOCK).values()) == [f"{n:040x}" for n in range(2)]

    (locked, *_) = read_lock(hub.LOCK).values()
    hub.LOCK.write_text(hub.LOCK.read_text().replace(locked[:8], "00000000", 1))
    with pytest.raises(WeightsRefused):
        hub.fetch(tmp_path / "again", MODELS, token_file=token, write_new_lock=False)


def test_no_models_need_no_lock_and_no_hub(hub, tmp_path):
    """A suite whose weights are in packages sends the hub no request."""
    hub.fetch(tmp_path, [], token_file=None, write_new_lock=False)
    assert hub.requests == []


def test_unused_copies_are_neither_downloaded_nor_locked(hub, tmp_path):
    """MMS-LID's second copy of its weights, 3.86 GB, is not asked for, and one that is there gets no hash."""
    (tmp_path / "mms-lid-256").mkdir()
    (tmp_path / "mms-lid-256/pytorch_model.bin").write_bytes(b"a second copy")
    hub.fetch(tmp_path, ["mms-lid-256"], token_file=None, write_new_lock=True)
    assert "pytorch_model.bin" in hub.ignored
    assert "mms-lid-256/model.safetensors" in read_lock(hub.LOCK)
    assert "mms-lid-256/pytorch_model.bin" not in read_lock(hub.LOCK)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_repository_names_the_licence_and_its_page(hub, tmp_path, status):
    """An unaccepted licence is told with the page that accepts it, and without a traceback."""
    refusal = OSError("gated")
    refusal.response = SimpleNamespace(status_code=status)
    hub.failures.append(refusal)
    with pytest.raises(BadInput, match=r"accept the licence \(CC-BY-NC-4\.0\) there") as told:
        hub.fetch(tmp_path, ["mms-lid-256"], token_file=None, write_new_lock=True)
    assert "/facebook/mms-lid-256 " in str(told.value)


def test_an_interrupted_download_continues(hub, tmp_path):
    """What was downloaded stays, complete models are not downloaded again, and the lock is written at the end only."""
    hub.fetch(tmp_path, ["mms-lid-256"], token_file=None, write_new_lock=True)
    first = hub.LOCK.read_text()
    commit = read_commits(hub.LOCK)["mms-lid-256"]
    hub.failures.append(ConnectionError("the line is down"))
    with pytest.raises(BadInput, match="run the same command again; the files that are complete are kept"):
        hub.fetch_model("voxlingua107-ecapa", tmp_path, None, commit)
    assert len(list((tmp_path / "voxlingua107-ecapa").iterdir())) == 1
    assert hub.LOCK.read_text() == first
    for model in MODELS:
        hub.fetch_model(model, tmp_path, None, commit)
    assert [source for source, *_ in hub.requests].count("facebook/mms-lid-256") == 1
    assert (tmp_path / "voxlingua107-ecapa" / ".commit").is_file()

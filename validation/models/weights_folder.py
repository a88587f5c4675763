"""Check the weights folders, which come with the image and not with a package, against the sha256 in a lock."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from validation.errors import BadInput
from validation.models.weights import WeightsRefused, sha256_of

LOCK_NAME = "weights.lock"
"""The usual file name of a lock: a text file with the sha256 of every weight file, and the commits of their sources."""
COMMIT_NAME = ".commit"
"""The file in a model's folder that holds the commit of the source. ``list_files`` ignores it, because it is hidden."""
_COMMIT_LINE = re.compile(r"# commit ([0-9a-f]{40})  (\S+)")
_HUB_METADATA = ".cache/huggingface/download"
"""The subfolder with one metadata file of the Hugging Face client per downloaded file; its first line is the commit."""


class WeightsUnlocked(BadInput):
    """A weight file has no hash in the lock, so the file is not loaded."""

    def __init__(self, model: str, file: str, lock: Path) -> None:
        self.model, self.file, self.lock = model, file, lock
        super().__init__(
            f"weights of {model}: {file} has no sha256 in {lock}: "
            "run `vfleet weights lock` on a machine whose weights are known to be good, and copy the lock it writes"
        )


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """One entry of ``weights_folders.toml``: a model with a weights folder."""

    model: str
    source: str
    """The repository of the folder's files."""
    revision: str
    """The branch or commit to download. A lock takes precedence: its commit if it has one, and its hashes."""
    licence: str
    required: tuple[str, ...]
    """Files that the model cannot load without, as paths below its folder."""
    unused: tuple[str, ...] = ()
    """Patterns of files in the source that no loader reads. These files are neither downloaded nor locked."""


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """The folder of one model, after every file has been checked against the lock."""

    model: str
    path: Path
    revision: str
    """The result of ``compute_revision``, which identifies the weights independently of their source.

    If the lock holds a commit, the first 12 digits of the commit come before the result, to find the weights at their
    source.
    """


@lru_cache(maxsize=1)
def read_folder_catalogue() -> Mapping[str, FolderEntry]:
    """Read ``weights_folders.toml``; return its entries by model."""
    entries = tomllib.loads((files(__package__) / "weights_folders.toml").read_text(encoding="utf-8"))
    return {
        model: FolderEntry(
            model, **entry | {"required": tuple(entry["required"]), "unused": tuple(entry.get("unused", ()))}
        )
        for model, entry in entries.items()
    }


def open_weights_folder(model: str, root: Path | None = None, lock: Path | None = None) -> WeightsFolder:
    """Check every file of a model's folder against the lock; return the folder.

    Every byte of the files is read. Nothing is written or downloaded.

    Args:
        model: a key of ``read_folder_catalogue``.
        root: the folder of all weights folders; VFLEET_WEIGHTS by default.
        lock: the path of the lock; by default VFLEET_WEIGHTS_LOCK, or ``weights.lock`` in ``root`` if that is not set.

    Raises:
        BadInput: VFLEET_WEIGHTS is not set, or a line of the lock is damaged.
        WeightsUnlocked: an existing or required file has no hash in the lock.
        WeightsRefused: a file is missing or altered. The message states the file and both hashes.
    """
    root, lock = _find_root_and_lock(model, root, lock)
    entry, folder = read_folder_catalogue()[model], root / model
    pinned = _pins_of(model, read_lock(lock)) if lock.is_file() else {}
    for name in sorted({*entry.required, *list_files(folder, entry.unused)} - pinned.keys()):
        raise WeightsUnlocked(model, name, lock)
    found = hash_files(folder, pinned)
    for name, sha256 in pinned.items():
        if found[name] != sha256:
            remedy = (
                f"download {entry.source} at {entry.revision} into {folder}, at the commit that {lock} was written for"
            )
            raise WeightsRefused(model, name, expected=sha256, found=found[name], remedy=remedy)
    commit = read_commits(lock).get(model)
    return WeightsFolder(
        model, folder, f"{commit[:12]}-{compute_revision(pinned)}" if commit else compute_revision(pinned)
    )


def hash_weights_folders(root: Path) -> dict[str, str]:
    """Compute the sha256 of every file in the weights folders below ``root``, without hidden and unused files.

    Returns:
        Hashes by ``<model>/<file>``, sorted.

    Raises:
        BadInput: no model of the catalogue has a folder, or a folder lacks a required file.
    """
    present = [entry for entry in read_folder_catalogue().values() if (root / entry.model).is_dir()]
    if not present:
        raise BadInput(f"{root} holds no folder of {', '.join(read_folder_catalogue())}")
    for entry in present:
        for name in entry.required:
            if not (root / entry.model / name).is_file():
                raise BadInput(f"{root / entry.model} is not all of {entry.source}: it lacks {name}")
    names = sorted(
        f"{entry.model}/{name}" for entry in present for name in list_files(root / entry.model, entry.unused)
    )
    return {name: sha256 for name, sha256 in hash_files(root, names).items() if sha256}


def find_commits(root: Path) -> dict[str, str]:
    """Return the commit of each weights folder below ``root``, by model. A folder without a commit is left out."""
    found = ((model, find_commit(root / model)) for model in read_folder_catalogue())
    return {model: commit for model, commit in found if commit}


def find_commit(folder: Path) -> str | None:
    """Read the commit of a folder from its file ``COMMIT_NAME``, else from the metadata that the hub's client wrote.

    Returns:
        The commit; None if no commit or more than one commit is found.
    """
    named = folder / COMMIT_NAME
    sources = [named] if named.is_file() else sorted((folder / _HUB_METADATA).rglob("*.metadata"))
    commits = {path.read_text(encoding="utf-8").split("\n", maxsplit=1)[0].strip() for path in sources}
    return commits.pop() if len(commits) == 1 else None


def write_lock(path: Path, hashes: Mapping[str, str], commits: Mapping[str, str] | None = None) -> None:
    """Write hashes, by ``<model>/<file>``, and commits, by model, to a lock file.

    ``sha256sum --check`` accepts the lock if it runs in the folder of all weights folders.
    """
    lines = [f"# commit {commit}  {model}\n" for model, commit in (commits or {}).items()]
    path.write_text("".join([*lines, *(f"{sha256}  {name}\n" for name, sha256 in hashes.items())]), encoding="utf-8")


def read_lock(path: Path) -> dict[str, str]:
    """Read the hashes of a lock, by ``<model>/<file>``.

    Raises:
        BadInput: a line is neither a commit nor a sha256 and a name.
    """
    hashes: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if _COMMIT_LINE.fullmatch(line):
            continue
        sha256, _, name = line.partition("  ")
        if len(sha256) != hashlib.sha256().digest_size * 2 or not name:
            raise BadInput(f"{path}, line {number}: not a sha256, two spaces and a name")
        hashes[name] = sha256
    return hashes


def read_commits(path: Path) -> dict[str, str]:
    """Read the commits of a lock, by model."""
    found = map(_COMMIT_LINE.fullmatch, path.read_text(encoding="utf-8").splitlines())
    return {line[2]: line[1] for line in found if line}


def compute_revision(pinned: Mapping[str, str]) -> str:
    """Compute a revision from the hashes of files by name: the first 12 digits of a sha256 over names and hashes."""
    listing = "".join(f"{pinned[name]}  {name}\n" for name in sorted(pinned))
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def list_files(folder: Path, unused: Iterable[str] = ()) -> list[str]:
    """List the files below a folder, as relative paths.

    Hidden files and folders, which download tools create, are left out. So are files that match a pattern of
    ``unused``.
    """
    patterns = tuple(unused)
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = (path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    return sorted(name for name in visible if not any(fnmatchcase(name, pattern) for pattern in patterns))


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str | None]:
    """Compute the sha256 of files, by name, in parallel; None for a missing file. Symbolic links are followed."""
    names = list(names)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: sha256_of(folder / name), names), strict=True))


def _find_root_and_lock(model: str, root: Path | None, lock: Path | None) -> tuple[Path, Path]:
    """Return the folder of all weights folders and the path of the lock; the settings replace None."""
    from validation.settings import load_settings  # noqa: PLC0415 - the GPU benchmark runs without pydantic

    settings = load_settings()
    root = root or settings.weights
    if root is None:
        raise BadInput(f"VFLEET_WEIGHTS is not set: it names the folder that holds {model}; weights are not downloaded")
    return root, lock or settings.weights_lock or root / LOCK_NAME


def _pins_of(model: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """Return the hashes of one model's files, by their path below the model's folder."""
    prefix = f"{model}/"
    return {name.removeprefix(prefix): sha256 for name, sha256 in hashes.items() if name.startswith(prefix)}

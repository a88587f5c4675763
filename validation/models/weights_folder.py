"""Weights that no package carries: folders that an image brings, and the lock that says what their bytes must be."""

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from validation.errors import BadInput
from validation.models.weights import WeightsRefused
from validation.settings import load_settings

LOCK_NAME = "weights.lock"
COMMIT_NAME = ".commit"
"""In a model's folder, the commit of its source that the files are of. Hidden, so it is none of the files."""
_COMMIT_LINE = re.compile(r"# commit ([0-9a-f]{40})  (\S+)")
_HUB_METADATA = ".cache/huggingface/download"
"""Where the hub's client keeps, below a folder that it filled, a file of metadata a file, whose first line is the
commit."""


class WeightsUnlocked(BadInput):
    """Nobody has said what the bytes of a weight file must be, so it is not loaded."""

    def __init__(self, model: str, file: str, lock: Path) -> None:
        self.model, self.file, self.lock = model, file, lock
        super().__init__(
            f"weights of {model}: {file} has no sha256 in {lock}: "
            "run `vfleet weights lock` where the weights are known to be good, and keep the lock it writes"
        )


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A model of the catalogue."""

    model: str
    source: str
    """The repository that the folder's files come from."""
    revision: str
    """The branch or commit to lock. From then on the lock's hashes decide, and its commit where it names one."""
    licence: str
    required: tuple[str, ...]
    """Files without which it cannot load, as paths below its folder."""


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """A model's folder, every file of it checked."""

    model: str
    path: Path
    revision: str
    """The start of a sha256 over all names and hashes: names these weights, wherever they came from. Before it stands
    the start of the commit that the lock names, if it names one: that is where to look them up."""


@lru_cache(maxsize=1)
def read_folder_catalogue() -> Mapping[str, FolderEntry]:
    """Read ``weights_folders.toml``: every model whose weights are a folder."""
    entries = tomllib.loads((files(__package__) / "weights_folders.toml").read_text(encoding="utf-8"))
    return {
        model: FolderEntry(model, **entry | {"required": tuple(entry["required"])}) for model, entry in entries.items()
    }


def open_weights_folder(model: str, root: Path | None = None, lock: Path | None = None) -> WeightsFolder:
    """Check a model's folder against the lock, whole. Reads every byte; never writes, never fetches.

    Args:
        model: a key of the catalogue.
        root: where the folders of all models lie; VFLEET_WEIGHTS by default.
        lock: VFLEET_WEIGHTS_LOCK by default, or else ``weights.lock`` in ``root``.

    Raises:
        BadInput: nobody said where the weights are.
        WeightsUnlocked: a file that lies there, or that must, has no hash in the lock.
        WeightsRefused: a file is missing or altered; the sentence names it and both hashes.
    """
    root, lock = _find_root_and_lock(model, root, lock)
    entry, folder = read_folder_catalogue()[model], root / model
    pinned = _pins_of(model, read_lock(lock)) if lock.is_file() else {}
    for name in sorted({*entry.required, *list_files(folder)} - pinned.keys()):
        raise WeightsUnlocked(model, name, lock)
    found = hash_files(folder, pinned)
    for name, sha256 in pinned.items():
        if found[name] != sha256:
            remedy = f"put {entry.source} at {entry.revision} into {folder} as it was when {lock} was written"
            raise WeightsRefused(model, name, expected=sha256, found=found[name], remedy=remedy)
    commit = read_commits(lock).get(model)
    return WeightsFolder(model, folder, f"{commit[:12]}-{name_revision(pinned)}" if commit else name_revision(pinned))


def lock_folders(root: Path) -> dict[str, str]:
    """Take the sha256 of every file of every model of the catalogue that has a folder below ``root``.

    Returns:
        Hashes by ``<model>/<file>``, sorted.

    Raises:
        BadInput: none of the models is there, or one lacks a required file.
    """
    present = [entry for entry in read_folder_catalogue().values() if (root / entry.model).is_dir()]
    if not present:
        raise BadInput(f"{root} holds no folder of {', '.join(read_folder_catalogue())}")
    for entry in present:
        for name in entry.required:
            if not (root / entry.model / name).is_file():
                raise BadInput(f"{root / entry.model} is not {entry.source} whole: it lacks {name}")
    names = sorted(f"{entry.model}/{name}" for entry in present for name in list_files(root / entry.model))
    return {name: sha256 for name, sha256 in hash_files(root, names).items() if sha256}


def find_commits(root: Path) -> dict[str, str]:
    """Find out which commit of its source each model's folder holds, by model; none for what does not say so."""
    found = ((model, find_commit(root / model)) for model in read_folder_catalogue())
    return {model: commit for model, commit in found if commit}


def find_commit(folder: Path) -> str | None:
    """Say which one commit a folder's files are of, by itself or by the hub's client; None if nobody says so."""
    named = folder / COMMIT_NAME
    told = [named] if named.is_file() else sorted((folder / _HUB_METADATA).rglob("*.metadata"))
    commits = {path.read_text(encoding="utf-8").split("\n", maxsplit=1)[0].strip() for path in told}
    return commits.pop() if len(commits) == 1 else None


def write_lock(path: Path, hashes: Mapping[str, str], commits: Mapping[str, str] | None = None) -> None:
    """Write a lock. ``sha256sum --check`` reads it too, from the folder of the weights."""
    lines = [f"# commit {commit}  {model}\n" for model, commit in (commits or {}).items()]
    path.write_text("".join([*lines, *(f"{sha256}  {name}\n" for name, sha256 in hashes.items())]), encoding="utf-8")


def read_lock(path: Path) -> dict[str, str]:
    """Read a lock back, hashes by ``<model>/<file>``.

    Raises:
        BadInput: a line is not a sha256 and a name.
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
    """Read which commits of their sources a lock's files are of, by model."""
    found = map(_COMMIT_LINE.fullmatch, path.read_text(encoding="utf-8").splitlines())
    return {line[2]: line[1] for line in found if line}


def name_revision(pinned: Mapping[str, str]) -> str:
    """Name a set of files by what is in them."""
    listing = "".join(f"{pinned[name]}  {name}\n" for name in sorted(pinned))
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def list_files(folder: Path) -> list[str]:
    """List the files below a folder, as paths below it. What a download tool keeps in hidden folders is not meant."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str | None]:
    """Take the sha256 of files, several at a time; None for one that is not there. Symbolic links are followed."""
    names = list(names)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: _hash_file(folder / name), names), strict=True))


def _find_root_and_lock(model: str, root: Path | None, lock: Path | None) -> tuple[Path, Path]:
    settings = load_settings()
    root = root or settings.weights
    if root is None:
        raise BadInput(f"VFLEET_WEIGHTS is not set: it is the folder that holds {model} and its like; none is fetched")
    return root, lock or settings.weights_lock or root / LOCK_NAME


def _pins_of(model: str, hashes: Mapping[str, str]) -> dict[str, str]:
    prefix = f"{model}/"
    return {name.removeprefix(prefix): sha256 for name, sha256 in hashes.items() if name.startswith(prefix)}


def _hash_file(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()

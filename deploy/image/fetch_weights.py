"""Fetch model weights during the build of an image: `fetch_weights.py FOLDER MODEL...`.

`weights_folders.toml` names the sources. Every file must have the hash that `weights.lock`, beside this program, has.
"""

# ruff: noqa: INP001 - a program of the image build
import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from validation.errors import BadInput, FleetError
from validation.models.weights_folder import (
    COMMIT_NAME,
    LOCK_NAME,
    FolderEntry,
    find_commit,
    find_commits,
    hash_weights_folders,
    open_weights_folder,
    read_commits,
    read_folder_catalogue,
    write_lock,
)

LOCK = Path(__file__).with_name(LOCK_NAME)
CONSOLIDATED = "indicconformer-600m"
"""The model whose files are consolidated after the download."""


def fetch_model(model: str, folder: Path, token: str | None, commit: str | None) -> None:
    """Download one model into ``folder/model``, without the files that no loader reads.

    An interrupted download continues: complete files are kept, and a model that is complete at its commit is not
    downloaded again. The four hundred files of IndicConformer are consolidated into five, because each start of a box
    opens all files.

    Args:
        model: the name of the model in ``weights_folders.toml``.
        folder: the folder that contains one folder per model.
        token: the token of the model hub; None for public models.
        commit: the commit to download; None for the latest commit of the branch in ``weights_folders.toml``.

    Raises:
        BadInput: the licence has not been accepted, or the download stopped.
    """
    # Imported here, because the hub's client is not needed if there is nothing to download.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    from validation.models.conformer.graph import consolidate_repository  # noqa: PLC0415

    entry, target = read_folder_catalogue()[model], folder / model
    consolidates = model == CONSOLIDATED
    download = folder / f".download-{model}" if consolidates else target
    with _explaining(entry):
        commit = commit or HfApi(token=token).model_info(entry.source, revision=entry.revision).sha
        if find_commit(target) == commit and (target / COMMIT_NAME).is_file():
            return
        (target / COMMIT_NAME).unlink(missing_ok=True)
        snapshot_download(
            entry.source, revision=commit, local_dir=download, token=token, ignore_patterns=list(entry.unused)
        )
    if consolidates:
        shutil.rmtree(target, ignore_errors=True)  # what an interrupted run left
        consolidate_repository(download, target)
        shutil.rmtree(download)
    shutil.rmtree(target / ".cache", ignore_errors=True)
    (target / COMMIT_NAME).write_text(f"{commit}\n", encoding="utf-8")


@contextmanager
def _explaining(entry: FolderEntry) -> Iterator[None]:
    """Translate an error of the hub's client into a ``BadInput`` that says what to do."""
    from huggingface_hub import constants  # noqa: PLC0415 - see `fetch_model`

    page = f"{constants.ENDPOINT}/{entry.source}"
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the client and its HTTP library have a dozen kinds
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise BadInput(
                f"{entry.source} is not open to this token (HTTP {status:d}): log in at {page} with the account of the "
                f"token, accept the licence ({entry.licence}) there, and pass a token that reads it: HF_TOKEN_FILE"
            ) from None
        raise BadInput(
            f"the download of {entry.source} stopped: {type(error).__name__}: {str(error).splitlines()[0]}: "
            "run the same command again; the files that are complete are kept"
        ) from None


def fetch(folder: Path, models: list[str], *, token_file: Path | None, write_new_lock: bool) -> None:
    """Download models, then check every file against the lock. With ``write_new_lock``, write a new lock before.

    Raises:
        BadInput: there is no lock, or a file differs from it.
    """
    if models and not write_new_lock and not LOCK.exists():
        raise BadInput(f"{LOCK} does not exist: run `make weights` on a trusted machine, then commit it")
    token = token_file.read_text(encoding="utf-8").strip() if token_file and token_file.exists() else None
    commits = read_commits(LOCK) if LOCK.exists() and not write_new_lock else {}
    for model in models:
        fetch_model(model, folder, token, commits.get(model))
    if write_new_lock:
        write_lock(LOCK, hash_weights_folders(folder), find_commits(folder))
    elif models:
        shutil.copy(LOCK, folder / LOCK_NAME)
    for model in models:
        open_weights_folder(model, folder, LOCK)


def main() -> int:
    """Run the program. Returns exit code 0, or 1 after one sentence on stderr if a model is missing or differs."""
    parser = argparse.ArgumentParser(description="Fetch weights for an image.")
    parser.add_argument("folder", type=Path, help="folder to write to; each model gets a folder of its own in it")
    parser.add_argument("models", nargs="*", help="names of validation/models/weights_folders.toml")
    parser.add_argument("--token-file", type=Path, help="file with the token of the model hub")
    parser.add_argument("--write-lock", action="store_true", help="write the lock instead of checking files against it")
    options = parser.parse_args()
    try:
        fetch(options.folder, options.models, token_file=options.token_file, write_new_lock=options.write_lock)
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

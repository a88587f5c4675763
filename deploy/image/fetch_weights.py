"""Fetch model weights during the build of an image: `fetch_weights.py FOLDER MODEL...`.

The sources are those of `weights_folders.toml`. Every file must have its hash of `weights.lock` beside this program.
"""

# ruff: noqa: INP001 - a program of the image build
import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from validation.errors import BadInput, FleetError
from validation.models.weights_folder import (
    COMMIT_NAME,
    LOCK_NAME,
    find_commits,
    lock_folders,
    open_weights_folder,
    read_commits,
    read_folder_catalogue,
    write_lock,
)

LOCK = Path(__file__).with_name(LOCK_NAME)
CONSOLIDATED = "indicconformer-600m"


def fetch_model(model: str, folder: Path, token: str | None, commit: str | None) -> None:
    """Download one model into ``folder/model``.

    The four hundred files of IndicConformer are consolidated into five, because every start of a box opens them all.

    Args:
        model: its name in ``weights_folders.toml``.
        folder: the folder of all models.
        token: the token of the model hub; None for public models.
        commit: the commit to download; None for the present one of the branch that the catalogue names.
    """
    # Imported here, because the hub's client is not needed if there is nothing to download.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    from validation.models.conformer.graph import consolidate_repository  # noqa: PLC0415

    entry = read_folder_catalogue()[model]
    commit = commit or HfApi(token=token).model_info(entry.source, revision=entry.revision).sha
    if model != CONSOLIDATED:
        snapshot_download(entry.source, revision=commit, local_dir=folder / model, token=token)
        shutil.rmtree(folder / model / ".cache", ignore_errors=True)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as download:
            snapshot_download(entry.source, revision=commit, local_dir=download, token=token)
            consolidate_repository(Path(download), folder / model)
    (folder / model / COMMIT_NAME).write_text(f"{commit}\n", encoding="utf-8")


def fetch(folder: Path, models: list[str], *, token_file: Path | None, write_new_lock: bool) -> None:
    """Download models, then check every file against the lock, or write a new lock on a trusted machine.

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
        write_lock(LOCK, lock_folders(folder), find_commits(folder))
    elif models:
        shutil.copy(LOCK, folder / LOCK_NAME)
    for model in models:
        open_weights_folder(model, folder, LOCK)


def main() -> int:
    """Exit with 1 and one sentence if a file differs from the lock."""
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

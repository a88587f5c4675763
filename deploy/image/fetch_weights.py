"""Fetch weights when an image is built: `fetch_weights.py FOLDER MODEL...`, from the sources of the catalogue.

Every file is then held to `weights.lock` beside this program.
"""

# ruff: noqa: INP001 - a program of the image's build
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
SCATTERED = "indicconformer-600m"


def fetch_model(model: str, folder: Path, token: str | None, commit: str | None) -> None:
    """Put one model's files into ``folder/model``: as they lie at their source, or as they load faster.

    IndicConformer's two graphs lie in four hundred files, which every start of a box would open.

    Args:
        model: which.
        folder: of all models.
        token: for the hub.
        commit: of the source; None is the one at which the catalogue's branch stands now.
    """
    # Not asked for where no model is.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    from validation.models.conformer.graph import consolidate_repository  # noqa: PLC0415

    entry = read_folder_catalogue()[model]
    commit = commit or HfApi(token=token).model_info(entry.source, revision=entry.revision).sha
    if model != SCATTERED:
        snapshot_download(entry.source, revision=commit, local_dir=folder / model, token=token)
        shutil.rmtree(folder / model / ".cache", ignore_errors=True)
    else:
        with tempfile.TemporaryDirectory(dir=folder) as download:
            snapshot_download(entry.source, revision=commit, local_dir=download, token=token)
            consolidate_repository(Path(download), folder / model)
    (folder / model / COMMIT_NAME).write_text(f"{commit}\n", encoding="utf-8")


def fetch(folder: Path, models: list[str], *, token_file: Path | None, write_new_lock: bool) -> None:
    """Fetch, then hold every file to the lock; or write the lock, on a machine that is trusted.

    Raises:
        BadInput: there is no lock, or a file is not what it says.
    """
    if models and not write_new_lock and not LOCK.exists():
        raise BadInput(f"{LOCK} does not exist: `make weights` fetches the weights once and writes it; commit it then")
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
    """Exit 1 with a sentence where a file is not what the lock says."""
    parser = argparse.ArgumentParser(description="Fetch weights for an image.")
    parser.add_argument("folder", type=Path, help="where they go: a folder a model")
    parser.add_argument("models", nargs="*", help="which, of validation/models/weights_folders.toml")
    parser.add_argument("--token-file", type=Path, help="a file with the hub's token")
    parser.add_argument("--write-lock", action="store_true", help="write down what came, in place of checking it")
    options = parser.parse_args()
    try:
        fetch(options.folder, options.models, token_file=options.token_file, write_new_lock=options.write_lock)
    except FleetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

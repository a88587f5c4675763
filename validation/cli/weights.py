"""`vfleet weights lock | check | consolidate`: what the bytes of an image's weights must be, and whether they are."""

import argparse
from pathlib import Path

from validation.cli import Subparsers


def add_weights_commands(commands: Subparsers) -> None:
    parser = commands.add_parser("weights", help="pin and check the weights that an image brings")
    actions = parser.add_subparsers(title="weights", required=True)

    locking = actions.add_parser("lock", help="write down what is there, once, where it is known to be good")
    locking.add_argument("folder", type=Path, help="what VFLEET_WEIGHTS will be: a folder a model")
    locking.add_argument("--output", type=Path, default=None, help="the lock (default: weights.lock in FOLDER)")
    locking.set_defaults(command=lock_weights)

    checking = actions.add_parser("check", help="compare every locked file with the lock, as every start does")
    checking.set_defaults(command=check_weights)

    consolidating = actions.add_parser("consolidate", help="make five files of IndicConformer's four hundred")
    consolidating.add_argument("source", type=Path, help="a download of its repository")
    consolidating.add_argument("target", type=Path, help="a folder that does not exist yet")
    consolidating.set_defaults(command=consolidate_weights)


def lock_weights(options: argparse.Namespace) -> None:
    from validation.models.weights_folder import LOCK_NAME, find_commits, lock_folders, write_lock

    hashes, commits = lock_folders(options.folder), find_commits(options.folder)
    lock = options.output or options.folder / LOCK_NAME
    write_lock(lock, hashes, commits)
    models = sorted({name.partition("/")[0] for name in hashes})
    told = [f"{model} at {commits[model]}" if model in commits else f"{model} of an unknown commit" for model in models]
    print(f"{len(hashes)} files of {', '.join(told)} locked in {lock}")


def check_weights(_options: argparse.Namespace) -> None:
    from validation.models.weights_folder import open_weights_folder, read_folder_catalogue

    for model, entry in read_folder_catalogue().items():
        print(f"{model} ({entry.source}) is revision {open_weights_folder(model).revision}")


def consolidate_weights(options: argparse.Namespace) -> None:
    from validation.errors import BadInput
    from validation.models.conformer.graph import consolidate_repository

    if options.target.exists():
        raise BadInput(f"{options.target} exists already: name a folder that does not")
    if not (options.source / "assets/encoder.onnx").is_file():
        raise BadInput(f"{options.source} is no download of IndicConformer: it lacks assets/encoder.onnx")
    consolidate_repository(options.source, options.target)
    print(f"{options.target} holds what the suite `indic` loads: now run `vfleet weights lock`")

"""IndicConformer's repository made fit for an image: five files instead of four hundred."""

import shutil
from pathlib import Path

from validation.models.conformer.graph import read_graph, write_graph
from validation.models.weights_folder import COMMIT_NAME, find_commit

KEPT = ("assets/ctc_decoder.onnx", "assets/vocab.json", "assets/language_masks.json", "config.json")


def consolidate_repository(source: Path, target: Path) -> None:
    """Copy what the CTC model needs, the encoder's weights as one file. The transducer's graphs stay behind.

    Weights keep their bytes, so all answers stay the same. Both layouts load; this one is quicker to lay out on many
    machines. Links are followed.

    Args:
        source: a download of the repository.
        target: a folder that does not exist yet.
    """
    (target / "assets").mkdir(parents=True)
    for name in KEPT:
        shutil.copyfile(source / name, target / name)
    if commit := find_commit(source):
        (target / COMMIT_NAME).write_text(f"{commit}\n")
    write_graph(read_graph(source / "assets/encoder.onnx"), target / "assets/encoder.onnx")

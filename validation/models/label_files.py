"""Read which languages a suite's models can identify. Only small files of the weights are read; no model is loaded."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from validation.errors import BadInput
from validation.languages import to_macrolanguage
from validation.models.language_id import language_of_label
from validation.models.suites import SUITES
from validation.models.weights import find_weights

_ENCODER_LINE = re.compile(r"'(?P<label>[^']+)' => \d+")
"""A line of the file that speechbrain's label encoder writes (``speechbrain.dataio.encoder``)."""
_ENCODER_LABELS_END = "================"
"""The line of that file after the last label."""


def read_known_languages(suite: str, root: Path | None) -> frozenset[str] | None:
    """Read the languages that at least one model of a suite can identify.

    Args:
        suite: a key of ``SUITES``.
        root: the folder of all weights folders (VFLEET_WEIGHTS).

    Returns:
        Normalised codes, equal to ``SuiteRoles.known_languages`` of the loaded suite; empty if no model identifies
        languages. None if a file is missing or cannot be read, or ``root`` is needed and None.
    """
    readers = [_READERS[model] for model in SUITES[suite].models if model in _READERS]
    try:
        labels = [label for read in readers for label in read(root)]
    except (OSError, ValueError, LookupError, AttributeError, BadInput):
        return None
    return frozenset(to_macrolanguage(language_of_label(label)) for label in labels)


def _read_whisper_labels(_root: Path | None) -> list[str]:
    """Read the labels of Whisper from the installed package, so ``_root`` is not used."""
    weights = find_weights("whisper-base")
    tokens = {token["id"]: token["content"] for token in json.loads(weights.read("tokenizer.json"))["added_tokens"]}
    return [tokens[token].strip("<|>") for token in json.loads(weights.read("config.json"))["lang_ids"]]


def _read_conformer_labels(root: Path | None) -> list[str]:
    return list(json.loads(_read_text_file(root, "indicconformer-600m", "assets/vocab.json")))


def _read_mms_labels(root: Path | None) -> list[str]:
    return list(json.loads(_read_text_file(root, "mms-lid-256", "config.json"))["id2label"].values())


def _read_voxlingua_labels(root: Path | None) -> list[str]:
    lines = (
        _read_text_file(root, "voxlingua107-ecapa", "label_encoder.txt").partition(_ENCODER_LABELS_END)[0].splitlines()
    )
    return [match["label"] for line in lines if (match := _ENCODER_LINE.fullmatch(line.strip()))]


def _read_text_file(root: Path | None, model: str, name: str) -> str:
    """Read a text file of a model's weights folder; raise LookupError if ``root`` is None."""
    if root is None:
        raise LookupError("VFLEET_WEIGHTS is not set")
    return (root / model / name).read_text(encoding="utf-8")


_READERS: Mapping[str, Callable[[Path | None], list[str]]] = {
    "whisper": _read_whisper_labels,
    "conformer": _read_conformer_labels,
    "mms": _read_mms_labels,
    "voxlingua": _read_voxlingua_labels,
}
"""The functions that read the labels of a model, by the model's name in ``SUITES``. Other models have no labels."""

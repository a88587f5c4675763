"""The vocabulary of IndicConformer: the pieces of each language, and their columns in the CTC head."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validation.errors import BadInput
from validation.languages import normalize_language_code

PIECES = 256
"""Pieces per language, ``<unk>`` first. The blank, which all languages share, follows them."""
BLANK = PIECES
"""The index of the blank among a language's own 257 columns."""


class VocabularyRefused(BadInput):
    """Vocabulary, masks and network do not belong together.

    Ids are local to a language: with a wrong mask every transcript is tokenized in another language's pieces, and
    every right transcript looks wrong.
    """

    def __init__(self, folder: Path, fault: str) -> None:
        self.folder, self.fault = folder, fault
        super().__init__(f"the vocabulary in {folder} does not fit the network: {fault}: download the repository again")


@dataclass(frozen=True)
class Vocabulary:
    """The pieces and columns of all languages, in the order of the head's columns."""

    languages: tuple[str, ...]
    """Normalised codes."""
    pieces: Mapping[str, tuple[str, ...]]
    """By language, ``PIECES`` each, by their local ids; a word begins with U+2581."""
    columns: NDArray[np.int64]
    """(L, 257): for each language the head's columns of its pieces, then the blank's."""

    @cached_property
    def index_of(self) -> Mapping[str, int]:
        return {language: index for index, language in enumerate(self.languages)}

    def decode(self, language: str, tokens: Sequence[int]) -> str:
        """Decode local ids, without blanks, to text; ``<unk>`` becomes SentencePiece's ``⁇``."""
        text = "".join(self.pieces[language][token] for token in tokens)
        return text.replace("▁", " ").replace("<unk>", "⁇").strip()


def read_vocabulary(assets: Path, width: int) -> Vocabulary:
    """Read ``vocab.json`` and ``language_masks.json``, and check them against each other and against the head.

    Args:
        assets: the folder of both.
        width: columns of the head.

    Raises:
        VocabularyRefused: they do not fit; the message says where.
    """
    piece_lists, masks = _read_object(assets, "vocab.json"), _read_object(assets, "language_masks.json")
    if piece_lists.keys() != masks.keys() or not masks:
        odd = sorted(piece_lists.keys() ^ masks.keys())
        raise VocabularyRefused(assets, f"vocab.json and language_masks.json differ in the languages {', '.join(odd)}")
    columns = {label: _read_columns(assets, label, mask, width) for label, mask in masks.items()}
    labels = sorted(columns, key=lambda label: int(columns[label][0]))
    languages = tuple(_name(assets, label) for label in labels)
    pieces = {
        language: _read_pieces(assets, label, piece_lists[label])
        for language, label in zip(languages, labels, strict=True)
    }
    stacked = np.stack([columns[label] for label in labels])
    _refuse_overlap(assets, labels, stacked)
    return Vocabulary(languages, pieces, stacked)


def _read_columns(assets: Path, label: str, mask: Sequence[bool], width: int) -> NDArray[np.int64]:
    columns = np.flatnonzero(np.asarray(mask, dtype=bool))
    if len(mask) != width or len(columns) != PIECES + 1:
        fault = (
            f"the mask of {label} takes {len(columns)} of {len(mask)} columns, not {PIECES + 1} of the head's {width}"
        )
        raise VocabularyRefused(assets, fault)
    if columns[-1] != width - 1:
        raise VocabularyRefused(assets, f"the mask of {label} does not end with the blank, the head's last column")
    return columns.astype(np.int64)


def _read_pieces(assets: Path, label: str, listed: Sequence[str]) -> tuple[str, ...]:
    """Read a language's pieces. The published lists have one more entry, in the position of the blank."""
    pieces = tuple(listed[:PIECES])
    if len(listed) not in (PIECES, PIECES + 1) or len(set(pieces)) != PIECES or pieces[0] != "<unk>":
        raise VocabularyRefused(
            assets, f"{label} has {len(listed)} entries, not <unk> and {PIECES - 1} different pieces"
        )
    return pieces


def _refuse_overlap(assets: Path, labels: Sequence[str], columns: NDArray[np.int64]) -> None:
    owned, owners = np.unique(columns[:, :BLANK], return_counts=True)
    if len(owned) < columns[:, :BLANK].size:
        shared = int(owned[owners > 1][0])
        both = [label for label, own in zip(labels, columns, strict=True) if shared in own]
        raise VocabularyRefused(assets, f"the masks of {' and '.join(both)} both take column {shared}")


def _name(assets: Path, label: str) -> str:
    code = normalize_language_code(label)
    if code is None:
        raise VocabularyRefused(assets, f"{label} is not a language code of ISO 639")
    return code


def _read_object(assets: Path, name: str) -> dict[str, Any]:
    content = json.loads((assets / name).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise VocabularyRefused(assets, f"{name} does not hold a JSON object")
    return content

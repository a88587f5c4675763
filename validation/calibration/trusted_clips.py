"""Trusted clips: recordings whose transcript and language label are known to be right."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from validation.corpus.audio import decode_audio
from validation.domain import Waveform
from validation.errors import BadInput, Permanent
from validation.languages import normalize_language_code

Rng: TypeAlias = np.random.Generator


@dataclass(frozen=True, slots=True)
class TrustedClip:
    """A recording with its correct transcript and language."""

    name: str
    audio: Waveform
    text: str
    language: str
    """The canonical language code, as ``normalize_language_code`` returns it."""
    is_synthetic: bool = False
    """Whether the speech is synthetic. Recognisers make more errors on synthetic speech than on human speech."""


def load_trusted_clips(folder: Path) -> list[TrustedClip]:
    """Read the clips of a folder of audio files with a ``manifest.json`` (a list) or ``manifest.jsonl``.

    The manifest has one entry per clip, with ``file``, ``text`` and ``language`` (or ``lang``); other keys are ignored.
    If both manifests exist, ``manifest.json`` is read.

    Raises:
        BadInput: there is no manifest; it cannot be read or has no entry; or an entry lacks a key, has an empty text,
            an unknown language or unreadable audio.
    """
    return [_load_clip(folder, place, entry) for place, entry in _read_entries(folder)]


def _read_entries(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of the manifest, each with its place for error messages."""
    path = next((folder / name for name in ("manifest.json", "manifest.jsonl") if (folder / name).is_file()), None)
    if path is None:
        raise BadInput(
            f"{folder} has no manifest.json and no manifest.jsonl: write one entry per clip, with file, text, language"
        )
    entries = _parse(path)
    if not entries:
        raise BadInput(f"{path} names no clip: write one entry per clip")
    for number, entry in enumerate(entries, start=1):
        place = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise BadInput(f"{place} is not a JSON object")
        yield place, entry


def _parse(path: Path) -> Sequence[Any]:
    """Return the list of entries in a manifest file. Entries are not checked."""
    try:
        text = path.read_text(encoding="utf-8")
        entries = (
            json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line]
        )
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if not isinstance(entries, list):
        raise BadInput(f"{path} must hold a list of clips")
    return entries


def _load_clip(folder: Path, place: str, entry: Mapping[str, Any]) -> TrustedClip:
    file, text, label = entry.get("file"), entry.get("text"), entry.get("language", entry.get("lang"))
    if not (isinstance(file, str) and isinstance(text, str) and text.strip() and isinstance(label, str)):
        raise BadInput(f"{place} needs file, text and language")
    language = normalize_language_code(label)
    if language is None:
        raise BadInput(f"{place}: {label!r} is not an ISO 639 code that this version knows")
    try:
        audio = decode_audio((folder / file).read_bytes())
    except (OSError, Permanent) as error:
        raise BadInput(f"{place}: {file} cannot be decoded: {error}") from None
    return TrustedClip(Path(file).stem, audio, text, language)

"""What a tar holds, by kind and by name."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from validation.corpus.tar import Member

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".m4a", ".aac", ".opus", ".ogg", ".webm")
TEXT_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".txt")
INDEX_STEMS = ("metadata", "transcription", "transcript", "segments", "manifest")
"""What the one file that lists all segments is called, and the order in which such files are believed."""
_DIGITS = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class TarListing:
    """The files of one tar that can say something of a segment, by name."""

    key: str
    audio: Mapping[str, bytes]
    texts: Mapping[str, bytes]


def is_wanted(name: str) -> bool:
    """Tell whether a file can say something of a segment. Hidden files cannot: macOS leaves ``._x.flac`` behind."""
    path = PurePosixPath(name)
    return not path.name.startswith(".") and path.name.lower().endswith(AUDIO_SUFFIXES + TEXT_SUFFIXES)


def sort_contents(key: str, members: Iterable[Member]) -> TarListing:
    """Tell audio from text. Members that are neither must have been left out before."""
    audio: dict[str, bytes] = {}
    texts: dict[str, bytes] = {}
    for member in members:
        kind = audio if member.name.lower().endswith(AUDIO_SUFFIXES) else texts
        kind[member.name] = member.payload
    return TarListing(key, audio, texts)


def strip_suffix(name: str) -> str:
    """Name a file without its kind: only the last suffix goes, so ``a/seg_12.34.flac`` is ``a/seg_12.34``."""
    return str(PurePosixPath(name).with_suffix(""))


def folder_of(name: str) -> PurePosixPath:
    """Return the folder that holds a file, ``.`` for the tar's top."""
    return PurePosixPath(name).parent


def natural_order(name: str) -> tuple[tuple[object, ...], str]:
    """Order names as people count: ``seg_2`` before ``seg_10``."""
    parts = _DIGITS.split(name)  # a word, a number, a word, ...
    return tuple(_numeric_key(part) if place % 2 else part for place, part in enumerate(parts)), name


def _numeric_key(digits: str) -> tuple[int, str]:
    """Order digits by value, however many there are."""
    value = digits.lstrip("0")
    return len(value), value

"""The files of a tar by kind and by name, and the references from its segments to their audio."""

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import regex

from validation.corpus.budget import LimitExceeded, ReadBudget, TarLimits
from validation.corpus.records import Record, decode_text, parse_document
from validation.corpus.tar import Member, TarUnsafe, read_members
from validation.domain import Fault, Seconds
from validation.errors import Permanent

AUDIO_SUFFIXES = (
    *(".flac", ".wav", ".mp3", ".m4a", ".aac", ".opus", ".ogg", ".webm", ".oga", ".mka", ".wma", ".aiff"),
    *(".aif", ".aifc", ".amr", ".au", ".caf", ".m4b", ".mp2", ".spx", ".w64"),
    *(".wave", ".weba", ".mpga", ".3ga"),
)
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".3gp")
"""Their sound is decoded, unless the tar holds an audio file of the same name."""
TEXT_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".txt")
INDEX_STEMS = ("metadata", "transcription", "transcript", "segments", "manifest")
"""Names, without suffix, of the one file that lists all segments; earlier names are preferred."""
_DIGITS = re.compile(r"([0-9]+)")
_MAX_SUFFIX_CHARS = 8
_MAX_TEXT_CHARS = 200_000
"""An hour of fast speech in one segment is 80,000 characters."""
_MAX_MARKS = 30
"""Combining marks in a row: no language needs more (Unicode UAX #15, stream-safe text), and normalising them takes
quadratic time."""
_MARKS = regex.compile(rf"\p{{M}}{{{_MAX_MARKS + 1}}}")


class BadLayout(Permanent):
    """A tar is whole, and arranged in no accepted layout (LAYOUTS.md)."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"{key}: not an accepted tar layout: {reason}")


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """An audio file of the tar, or a span of it."""

    member: str
    span_s: tuple[Seconds, Seconds] | None = None
    """Start and end from the start of the file; None is the whole file."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment whose audio is not decoded yet: its name, its record, and the place of its audio or a fault."""

    name: str
    record: Record
    audio: AudioSpan | Fault


class TarListing:
    """The audio files and the texts of one tar, by name, and a count of the files that are passed over."""

    def __init__(self, key: str, members: Iterable[Member], budget: ReadBudget | None = None) -> None:
        self.key = key
        self.audio: dict[str, bytes] = {}
        self.texts: dict[str, bytes] = {}
        self.passed_over: Counter[str] = Counter()
        """By suffix, such as ``.jpg``."""
        self._budget = budget or ReadBudget(TarLimits())
        self._documents: dict[str, Any] = {}
        for member in members:
            files = self.texts if member.name.lower().endswith(TEXT_SUFFIXES) else self.audio
            files[member.name] = member.payload
        self._drop_videos()

    def parse(self, name: str) -> Any:
        """Parse one of ``texts`` as JSON; it is parsed once, however often it is asked for.

        Raises:
            ValueError: it cannot be read, and why.
            TarUnsafe: the budget of the tar is spent.
        """
        if name not in self._documents:
            self._documents[name] = self._read(name, parse_document)
        return _raise_if_error(self._documents[name])

    def spend_segments(self, name: str, count: int) -> None:
        """Pay for the segments that one of ``texts`` lists.

        Raises:
            TarUnsafe: the budget of the tar is spent.
        """
        try:
            self._budget.spend_segments(name, count)
        except LimitExceeded as refusal:
            raise TarUnsafe(self.key, name, str(refusal)) from None

    def decode(self, name: str) -> str:
        """Decode one of ``texts``. Raises as ``parse``."""
        text: str = _raise_if_error(self._read(name, decode_text))
        return text

    def describe_passed_over(self) -> str:
        """Return the end of a sentence that names what was passed over; empty if it is nothing."""
        counts = sorted(self.passed_over.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts)
        return f"; passed over {kinds}" if kinds else ""

    def _read(self, name: str, read: Callable[[str, bytes, ReadBudget], Any]) -> Any:
        try:
            return read(name, self.texts[name], self._budget)
        except ValueError as error:
            return error
        except LimitExceeded as refusal:
            raise TarUnsafe(self.key, name, str(refusal)) from None

    def _drop_videos(self) -> None:
        stems = {strip_suffix(name) for name in self.audio if not _is_video(name)}
        for name in [name for name in self.audio if _is_video(name) and strip_suffix(name) in stems]:
            del self.audio[name]
            self.passed_over[_suffix_of(name)] += 1


def read_listing(stream: io.RawIOBase, key: str, limits: TarLimits) -> TarListing:
    """Read the audio and the texts of a tar. Raises as ``read_members``."""
    budget, passed_over = ReadBudget(limits), Counter[str]()

    def keep(name: str) -> bool:
        wanted = is_wanted(name)
        passed_over.update(() if wanted else (_suffix_of(name),))
        return wanted

    listing = TarListing(key, read_members(stream, key, budget, keep), budget)
    listing.passed_over += passed_over
    return listing


class MemberNames:
    r"""Finds a tar's audio by the names that records use.

    A name matches a member exactly; else as a path with any separator (``a\b.wav``, ``./a/b.wav``); else in Unicode
    NFC, because macOS stores names in NFD.
    """

    def __init__(self, key: str, names: Mapping[str, str]) -> None:
        """Index members by name: ``names`` maps each name to its member."""
        self._key, self._exact = key, names
        self._by_form = [(form, _group(names, form)) for form in (_to_path, to_nfc)]

    def find(self, name: str) -> str | None:
        """Return the member of a name.

        Raises:
            BadLayout: the name matches two members, and neither exactly.
        """
        if name in self._exact:
            return self._exact[name]
        for form, groups in self._by_form:
            found = groups.get(form(name), [])
            if len(found) > 1:
                raise BadLayout(self._key, f"{name!r} is the name of both {found[0]!r} and {found[1]!r}")
            if found:
                return self._exact[found[0]]
        return None


def is_wanted(name: str) -> bool:
    """Return True for audio and texts that are not hidden: macOS leaves ``._x.flac`` beside ``x.flac``."""
    suffixes = AUDIO_SUFFIXES + VIDEO_SUFFIXES + TEXT_SUFFIXES
    return not _base_name(name).startswith(".") and name.lower().endswith(suffixes)


def ref_audio(name: str, record: Record, member: str) -> SegmentRef:
    """Refer a segment to one whole audio file."""
    return _require_text(SegmentRef(name, record, AudioSpan(member)))


def ref_file(member: str, record: Record) -> SegmentRef:
    """Refer a segment to one whole audio file, and name it by the file's path without the suffix."""
    return ref_audio(strip_suffix(member), record, member)


def ref_span(name: str, record: Record, member: str) -> SegmentRef:
    """Refer a segment to the span of an audio file between the record's times; a duration alone starts at 0."""
    start_s, end_s = record.start_s, record.end_s
    if start_s is None and record.duration_s is not None:
        start_s, end_s = 0.0, record.duration_s if end_s is None else end_s
    if start_s is None or end_s is None:
        return SegmentRef(name, record, Fault("bad_times", f"{name} has no {'start' if start_s is None else 'end'}"))
    if end_s <= start_s:
        return SegmentRef(name, record, Fault("bad_times", f"{name} lasts from {start_s} s to {end_s} s"))
    return _require_text(SegmentRef(name, record, AudioSpan(member, (start_s, end_s))))


def ref_missing(name: str, record: Record) -> SegmentRef:
    """Return a segment whose audio the tar does not hold."""
    return SegmentRef(name, record, Fault("no_audio", f"the tar holds no audio for {name}"))


def ref_unlisted(listing: TarListing, listed: Collection[str]) -> list[SegmentRef]:
    """Return a segment per audio file without a record, in the folders that hold transcribed audio.

    In other folders audio is no segment: many tars carry the whole video's sound beside a folder of segments.
    """
    folders = {folder_of(name) for name in listed}
    unlisted = [name for name in listing.audio if name not in listed and folder_of(name) in folders]
    return [ref_file(name, Record()) for name in unlisted if not _is_video(name)]


def _require_text(ref: SegmentRef) -> SegmentRef:
    """Turn a segment without a usable transcript into a fault: a missing transcript is not an empty one."""
    text = ref.record.text
    if text is None:
        return replace(ref, audio=Fault("no_transcript", f"{ref.name} has no transcript"))
    if len(text) > _MAX_TEXT_CHARS:
        problem = f"the transcript has {len(text)} characters, more than {_MAX_TEXT_CHARS}"
    elif _MARKS.search(text):
        problem = f"the transcript has more than {_MAX_MARKS} combining marks in a row"
    else:
        return ref
    return replace(ref, record=replace(ref.record, text=None), audio=Fault("bad_transcript", problem))


def strip_suffix(name: str) -> str:
    """Return a file's path without its last suffix: ``a/seg_12.34.flac`` is ``a/seg_12.34``."""
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.name else name


def stem_of(name: str) -> str:
    """Return a file's bare name without its last suffix. Backslashes separate folders too."""
    return PurePosixPath(_to_path(name)).stem


def folder_of(name: str) -> PurePosixPath:
    """Return the folder that holds a file, ``.`` for the tar's top. Backslashes separate folders too."""
    return PurePosixPath(_to_path(name)).parent


def to_nfc(name: str) -> str:
    """Return a path with ``/`` between its parts, in Unicode NFC."""
    path = _to_path(name)
    return path if _MARKS.search(path) else unicodedata.normalize("NFC", path)


def natural_order(name: str) -> tuple[tuple[object, ...], str]:
    """Return a sort key that orders digits by value: ``seg_2`` before ``seg_10``."""
    parts = _DIGITS.split(name)  # a word, a number, a word, ...
    return tuple(_numeric_key(part) if place % 2 else part for place, part in enumerate(parts)), name


def _numeric_key(digits: str) -> tuple[int, str]:
    """Order digits by value, however many there are."""
    value = digits.lstrip("0")
    return len(value), value


def _to_path(name: str) -> str:
    return str(PurePosixPath(name.replace("\\", "/")))


def _base_name(name: str) -> str:
    return PurePosixPath(_to_path(name)).name


def _is_video(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def _suffix_of(name: str) -> str:
    """Return a file's suffix as a kind to count."""
    base = _base_name(name)
    if base.startswith("."):
        return "hidden"
    suffix = PurePosixPath(base).suffix.lower()
    return suffix if 1 < len(suffix) <= _MAX_SUFFIX_CHARS else "without a suffix"


def _raise_if_error(value: Any) -> Any:
    if isinstance(value, ValueError):
        raise value
    return value


def _group(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(form(name), []).append(name)
    return groups

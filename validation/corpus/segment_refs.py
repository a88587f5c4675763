"""List the audio files and the texts of a tar, and create the references from segments to their audio."""

import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from validation.corpus.budget import LimitExceeded, ReadBudget, TarLimits
from validation.corpus.paths import (
    MAX_MARKS,
    base_name,
    folder_of,
    has_many_marks,
    strip_suffix,
    suffix_of,
    to_nfc,
    to_path,
)
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
"""Suffixes of video files. Their audio track is decoded, unless the tar holds an audio file of the same name."""
TEXT_SUFFIXES = (".json", ".jsonl", ".jsonl.gz", ".txt")
_WANTED_SUFFIXES = AUDIO_SUFFIXES + VIDEO_SUFFIXES + TEXT_SUFFIXES
INDEX_STEMS = ("metadata", "transcription", "transcript", "segments", "manifest")
"""Names, without suffix, of the index file that lists all segments. Earlier names have priority."""
_DIGITS = re.compile(r"([0-9]+)")
_MAX_SUFFIX_CHARS = 8
_MAX_TEXT_CHARS = 200_000
"""Maximum length of a transcript in characters. An hour of fast speech has 80,000 characters."""


class BadLayout(Permanent):
    """A tar is complete, but has no accepted layout (LAYOUTS.md)."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"{key}: not an accepted tar layout: {reason}")


@dataclass(frozen=True, slots=True)
class AudioSpan:
    """A reference to an audio file of the tar, or to a span of an audio file."""

    member: str
    """The path of the audio file in the tar."""
    span_s: tuple[Seconds, Seconds] | None = None
    """Start and end of the span, measured from the start of the file; None for the whole file."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A segment whose audio is not decoded yet."""

    name: str
    record: Record
    audio: AudioSpan | Fault
    """The reference to the audio, or the reason why the segment has no usable audio or transcript."""


class TarListing:
    """The content of the audio files and texts of one tar, by path, and a count of the ignored files."""

    def __init__(self, key: str, members: Iterable[Member], budget: ReadBudget | None = None) -> None:
        self.key = key
        self.audio: dict[str, bytes] = {}
        self.texts: dict[str, bytes] = {}
        self.ignored_files: Counter[str] = Counter()
        """Number of ignored files per suffix, such as ``.jpg``."""
        self._budget = budget or ReadBudget(TarLimits())
        self._documents: dict[str, Any] = {}
        for member in members:
            files = self.texts if member.name.lower().endswith(TEXT_SUFFIXES) else self.audio
            files[member.name] = member.payload
        self._drop_videos()

    def parse(self, name: str) -> Any:
        """Parse one of ``texts`` as JSON. The result is cached, so repeated calls do not parse the text again.

        Raises:
            ValueError: the text cannot be parsed; the message states the reason.
            TarUnsafe: the budget of the tar is exceeded.
        """
        if name not in self._documents:
            self._documents[name] = self._read(name, parse_document)
        return _raise_if_error(self._documents[name])

    def spend_segments(self, name: str, count: int) -> None:
        """Subtract the number of segments that one of ``texts`` lists from the budget of the tar.

        Raises:
            TarUnsafe: the budget of the tar is exceeded.
        """
        try:
            self._budget.spend_segments(name, count)
        except LimitExceeded as refusal:
            raise TarUnsafe(self.key, name, str(refusal)) from None

    def decode(self, name: str) -> str:
        """Decode one of ``texts`` to a string.

        Raises:
            ValueError: the text has no accepted encoding, or is too large.
            TarUnsafe: the budget of the tar is exceeded.
        """
        text: str = _raise_if_error(self._read(name, decode_text))
        return text

    def describe_ignored_files(self) -> str:
        """Return the last part of an error message, which counts the ignored files; empty if there are none."""
        counts = sorted(self.ignored_files.items(), key=lambda item: (-item[1], item[0]))
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts)
        return f"; ignored files: {kinds}" if kinds else ""

    def _read(self, name: str, read: Callable[[str, bytes, ReadBudget], Any]) -> Any:
        """Return the result of ``read`` for a text, or its ValueError. Raise ``TarUnsafe`` above the budget."""
        try:
            return read(name, self.texts[name], self._budget)
        except ValueError as error:
            return error
        except LimitExceeded as refusal:
            raise TarUnsafe(self.key, name, str(refusal)) from None

    def _drop_videos(self) -> None:
        """Ignore each video file for which an audio file of the same name exists."""
        stems = {strip_suffix(name) for name in self.audio if not _is_video(name)}
        for name in [name for name in self.audio if _is_video(name) and strip_suffix(name) in stems]:
            del self.audio[name]
            self.ignored_files[_describe_suffix(name)] += 1


def read_listing(stream: io.RawIOBase, key: str, limits: TarLimits) -> TarListing:
    """Read the audio files and the texts of a tar into memory.

    Args:
        stream: the bytes of the tar, plain or compressed with gzip.
        key: the object key, for errors.
        limits: limits on the tar.

    Raises:
        TarCorrupt, TarUnsafe: as ``read_members``.
    """
    budget, ignored_files = ReadBudget(limits), Counter[str]()

    def keep(name: str) -> bool:
        wanted = is_wanted(name)
        ignored_files.update(() if wanted else (_describe_suffix(name),))
        return wanted

    listing = TarListing(key, read_members(stream, key, budget, keep), budget)
    listing.ignored_files += ignored_files
    return listing


class MemberNames:
    r"""Finds the members of a tar by the names that records use.

    Names are compared exactly first. If there is no match, they are compared as paths with normalised separators
    (``a\b.wav``, ``./a/b.wav``), then in Unicode NFC, because macOS stores names in NFD.
    """

    def __init__(self, key: str, names: Mapping[str, str]) -> None:
        """Index the members of the tar ``key``. ``names`` maps each name to the path of its member."""
        self._key, self._exact = key, names
        self._by_form = [(form, _group(names, form)) for form in (to_path, to_nfc)]

    def find(self, name: str) -> str | None:
        """Return the path of the member with a name; None if no member matches.

        Raises:
            BadLayout: the name matches no member exactly, and matches two members in a normalised form.
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
    """Return whether a file is audio, video or text by its suffix, and not hidden.

    Hidden files are ignored because macOS creates files such as ``._x.flac`` beside ``x.flac``.
    """
    return name.lower().endswith(_WANTED_SUFFIXES) and not base_name(name).startswith(".")


def ref_audio(name: str, record: Record, member: str) -> SegmentRef:
    """Return a segment whose audio is one whole file; a fault replaces the audio if the transcript is unusable."""
    return _require_text(SegmentRef(name, record, AudioSpan(member)))


def ref_file(member: str, record: Record) -> SegmentRef:
    """Return a segment whose audio is one whole audio file, and whose name is the file's path without the suffix."""
    return ref_audio(strip_suffix(member), record, member)


def ref_span(name: str, record: Record, member: str) -> SegmentRef:
    """Return a segment whose audio is the span of an audio file between the record's start and end.

    A record with a duration and without a start has the start 0. If the times are missing or invalid, the fault
    ``bad_times`` replaces the audio.
    """
    start_s, end_s = record.start_s, record.end_s
    if start_s is None and record.duration_s is not None:
        start_s, end_s = 0.0, record.duration_s if end_s is None else end_s
    if start_s is None or end_s is None:
        return SegmentRef(name, record, Fault("bad_times", f"{name} has no {'start' if start_s is None else 'end'}"))
    if end_s <= start_s:
        return SegmentRef(name, record, Fault("bad_times", f"{name} lasts from {start_s} s to {end_s} s"))
    return _require_text(SegmentRef(name, record, AudioSpan(member, (start_s, end_s))))


def ref_missing(name: str, record: Record) -> SegmentRef:
    """Return a segment with the fault ``no_audio``, because the tar does not hold its audio."""
    return SegmentRef(name, record, Fault("no_audio", f"the tar holds no audio for {name}"))


def ref_untranscribed(listing: TarListing, listed: Collection[str]) -> list[SegmentRef]:
    """Return one segment with the fault ``no_transcript`` per audio file without a record.

    Only audio files in folders with transcribed audio count as segments, and video files never do. Many tars hold the
    sound of the whole video in a folder beside the segments.

    Args:
        listing: the files of the tar.
        listed: the audio files with a record.
    """
    folders = {folder_of(name) for name in listed}
    unlisted = [name for name in listing.audio if name not in listed and folder_of(name) in folders]
    return [ref_file(name, Record()) for name in unlisted if not _is_video(name)]


def _require_text(ref: SegmentRef) -> SegmentRef:
    """Return the segment; a fault replaces its audio if the transcript is missing or unusable.

    An empty transcript is usable: it declares a segment without speech.
    """
    text = ref.record.text
    if text is None:
        return replace(ref, audio=Fault("no_transcript", f"{ref.name} has no transcript"))
    if len(text) > _MAX_TEXT_CHARS:
        problem = f"the transcript has {len(text)} characters, more than {_MAX_TEXT_CHARS}"
    elif has_many_marks(text):
        problem = f"the transcript has more than {MAX_MARKS} combining marks in a row"
    else:
        return ref
    return replace(ref, record=replace(ref.record, text=None), audio=Fault("bad_transcript", problem))


def natural_sort_key(name: str) -> tuple[tuple[object, ...], str]:
    """Return a sort key that orders numbers in names by value: ``seg_2`` before ``seg_10``."""
    parts = _DIGITS.split(name)  # a word, a number, a word, ...
    return tuple(_numeric_key(part) if place % 2 else part for place, part in enumerate(parts)), name


def _numeric_key(digits: str) -> tuple[int, str]:
    """Return a sort key that orders digit strings of any length by value."""
    value = digits.lstrip("0")
    return len(value), value


def _is_video(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def _describe_suffix(name: str) -> str:
    """Return a file's suffix in lower case; ``hidden`` for a hidden file.

    A file without a suffix, or with a suffix of more than ``_MAX_SUFFIX_CHARS``, gives ``without a suffix``.
    """
    if base_name(name).startswith("."):
        return "hidden"
    suffix = suffix_of(name)
    return suffix if 1 < len(suffix) <= _MAX_SUFFIX_CHARS else "without a suffix"


def _raise_if_error(value: Any) -> Any:
    """Return a value; raise it if it is a ValueError."""
    if isinstance(value, ValueError):
        raise value
    return value


def _group(names: Iterable[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    """Group names by the result of ``form``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(form(name), []).append(name)
    return groups

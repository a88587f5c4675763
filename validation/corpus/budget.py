"""Limits of what reading one tar may cost, and the budget that the readers of tars, gzip and JSON spend."""

import time
from dataclasses import dataclass

from validation.domain import Seconds
from validation.errors import Permanent


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Limits of one tar, so that a hostile or wrongly packed object cannot exhaust the box.

    With these defaults, reading a tar holds its audio and texts in memory (at most ``total_bytes``), takes at most
    1 GiB more for parsing, and ends after ``cpu_s`` of processor time. ``CorpusLimits`` bounds the decoding.
    """

    members: int = 50_000
    """Twelve hours in segments of 4 s, two members each, are 21,600."""
    name_bytes: int = 4096
    """A member's path, as the longest of Linux."""
    segments: int = 50_000
    """Twelve hours in segments of 1 s are 43,200."""
    total_bytes: int = 2 << 30
    """After decompression, headers included. Twelve hours of 16 kHz 16-bit WAV are 1.4 GB; FLAC is half."""
    member_bytes: int = 3 << 29
    """1.5 GiB: the same twelve hours as a single WAV member."""
    ratio: float = 100.0
    """Bytes after decompression per byte before. Speech in WAV packs 1.3 to 1, a tar of nothing but JSON 42 to 1."""
    document_bytes: int = 64 << 20
    """One text or JSON file, after its own decompression. Twelve hours of Whisper's words and tokens are 32 MB."""
    text_bytes: int = 128 << 20
    """All texts and JSON files together, after their own decompression."""
    json_items: int = 3_000_000
    """All JSON files together: their commas, brackets, braces and lines. Twelve hours of Whisper's words and tokens are
    1.2 million. An item takes at most 130 bytes of memory when it is parsed."""
    json_depth: int = 100
    """Nesting of one JSON file. Lhotse's cuts have seven levels."""
    cpu_s: Seconds = 120.0
    """Processor time; waiting for the network does not count. A tar of 2 GiB takes 15 s."""


class LimitExceeded(Permanent):
    """A tar breaks a rule or passes a limit; the reader adds which tar and which member."""

    def __init__(self, reason: str, member: str | None = None) -> None:
        self.member = member
        super().__init__(reason)


class ReadBudget:
    """What reading one tar may still cost. Every reader of its content spends from the same budget."""

    def __init__(self, limits: TarLimits) -> None:
        self.limits = limits
        self._text_bytes, self._json_items, self._segments = limits.text_bytes, limits.json_items, limits.segments
        self._started_s = time.thread_time()

    def spend_text(self, member: str, size_bytes: int) -> None:
        """Pay for a text before it is decoded."""
        self._text_bytes -= size_bytes
        if self._text_bytes < 0:
            raise LimitExceeded(f"the texts of the tar hold more than {self.limits.text_bytes} bytes", member)
        self.check_time(member)

    def spend_items(self, member: str, count: int) -> None:
        """Pay for the values of a JSON file before it is parsed."""
        self._json_items -= count
        if self._json_items < 0:
            raise LimitExceeded(f"the JSON of the tar holds more than {self.limits.json_items} items", member)

    def spend_segments(self, member: str, count: int) -> None:
        """Pay for the segments that a file lists before their records are read."""
        self._segments -= count
        if self._segments < 0:
            raise LimitExceeded(f"the tar lists more than {self.limits.segments} segments", member)
        self.check_time(member)

    def check_time(self, member: str | None = None) -> None:
        """Raise ``LimitExceeded`` if the tar has taken more processor time than allowed."""
        if time.thread_time() - self._started_s > self.limits.cpu_s:
            raise LimitExceeded(f"the tar took more than {self.limits.cpu_s:g} s of processor time to read", member)

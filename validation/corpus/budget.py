"""Limits on the memory and the processor time for one tar, and the budget that enforces them in all readers."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from validation.domain import Seconds
from validation.errors import Permanent


@dataclass(frozen=True, slots=True)
class TarLimits:
    """Limits on one tar, so that a hostile or wrongly packed object cannot exhaust the memory or the CPU of a box.

    With the default limits, a reader holds the audio and the texts of the tar in memory (at most ``total_bytes``). It
    needs at most 1 GiB more for parsing, and it stops after ``cpu_s`` of processor time. ``CorpusLimits`` limits the
    decoding of the audio.
    """

    members: int = 50_000
    """Maximum number of members. Twelve hours in segments of 4 s, with two members per segment, have 21,600."""
    name_chars: int = 4096
    """Maximum length of a member's path in characters: the maximum length of a path in Linux."""
    segments: int = 50_000
    """Maximum number of segments that the texts list. Twelve hours in segments of 1 s have 43,200."""
    total_bytes: int = 2 << 30
    """Maximum size of the decompressed tar, headers included. Twelve hours of 16 kHz 16-bit WAV have 1.4 GB, as FLAC
    half of that."""
    member_bytes: int = 3 << 29
    """Maximum size of one member, 1.5 GiB. Twelve hours as one 16 kHz 16-bit WAV file have 1.4 GB."""
    ratio: float = 100.0
    """Maximum compression ratio of the tar, checked from 16 MiB on. A tar of speech in WAV has a ratio of 1.3, a tar of
    only JSON one of 42."""
    document_bytes: int = 64 << 20
    """Maximum size of one text or JSON file after its own decompression. Whisper's words and tokens of twelve hours
    have 32 MB."""
    text_bytes: int = 128 << 20
    """Maximum size of all texts and JSON files together, after their own decompression."""
    json_items: int = 3_000_000
    """Maximum number of items in all JSON files together. The items are the commas, the opening brackets and braces,
    and in JSON lines the line ends. Whisper's words and tokens of twelve hours have 1.2 million. A parsed item takes at
    most 130 bytes of memory."""
    json_depth: int = 100
    """Maximum nesting depth of a JSON file. Lhotse's cuts have seven levels."""
    cpu_s: Seconds = 120.0
    """Maximum processor time to read the tar, without waiting for the network. A tar of 2 GiB takes 15 s."""


class LimitExceeded(Permanent):
    """A tar exceeds a limit or holds a forbidden member.

    Readers convert this error to ``TarUnsafe``, which names the tar and the member.
    """

    def __init__(self, reason: str, member: str | None = None) -> None:
        self.member = member
        super().__init__(reason)


class TimeLimit:
    """A limit on the processor time of the calling thread.

    To read this time costs a system call, and the wall clock costs none. A thread cannot use more processor time than
    wall time, so the processor time is read only after enough wall time has passed to exceed the limit.
    """

    def __init__(
        self,
        limit_s: Seconds,
        clock: Callable[[], Seconds] = time.thread_time,
        wall_clock: Callable[[], Seconds] = time.monotonic,
    ) -> None:
        """Start to measure. ``clock`` returns the limited time; ``wall_clock`` must advance at least as fast."""
        self._clock, self._wall_clock = clock, wall_clock
        self._end_s, self._read_at_s = clock() + limit_s, wall_clock() + limit_s

    def is_exceeded(self) -> bool:
        """Return whether more time than the limit has passed since the start."""
        now_s = self._wall_clock()
        if now_s <= self._read_at_s:
            return False
        left_s = self._end_s - self._clock()
        self._read_at_s = now_s + left_s
        return left_s < 0


class ReadBudget:
    """The rest of the limits of one tar. All readers of the tar's content spend from the same budget.

    Each method that spends raises ``LimitExceeded`` if the budget does not suffice.
    """

    def __init__(self, limits: TarLimits) -> None:
        self.limits = limits
        self._text_bytes, self._json_items, self._segments = limits.text_bytes, limits.json_items, limits.segments
        self._time_limit = TimeLimit(limits.cpu_s)

    def spend_text(self, member: str, size_bytes: int) -> None:
        """Subtract the size of a text from the budget, before the text is decoded, and check the time."""
        self._text_bytes -= size_bytes
        if self._text_bytes < 0:
            raise LimitExceeded(f"the texts of the tar hold more than {self.limits.text_bytes} bytes", member)
        self.check_time(member)

    def spend_items(self, member: str, count: int) -> None:
        """Subtract the number of items of a JSON file from the budget, before the file is parsed."""
        self._json_items -= count
        if self._json_items < 0:
            raise LimitExceeded(f"the JSON of the tar holds more than {self.limits.json_items} items", member)

    def spend_segments(self, member: str, count: int) -> None:
        """Subtract the number of segments that a file lists from the budget, before the records are read."""
        self._segments -= count
        if self._segments < 0:
            raise LimitExceeded(f"the tar lists more than {self.limits.segments} segments", member)
        self.check_time(member)

    def check_time(self, member: str | None = None) -> None:
        """Raise ``LimitExceeded`` if the tar has taken more processor time than allowed."""
        if self._time_limit.is_exceeded():
            raise LimitExceeded(f"the tar took more than {self.limits.cpu_s:g} s of processor time to read", member)

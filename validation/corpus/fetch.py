"""Fetch a video from the object store: read its tar, find its segments and decode their audio."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from obstore.store import ObjectStore

from validation.corpus.audio import Undecodable, decode_audio, slice_audio
from validation.corpus.budget import TarLimits
from validation.corpus.decode_subprocess import subprocess_decoder
from validation.corpus.layouts import Layout, read_layout
from validation.corpus.records import Record
from validation.corpus.segment_refs import AudioSpan, BadLayout, SegmentRef, read_listing
from validation.corpus.tar import TarUnsafe
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Fault, Seconds, Segment, Video, Waveform
from validation.errors import Permanent
from validation.storage.store import stream_object

Decoder: TypeAlias = Callable[[bytes, Seconds], Waveform]
"""``decode_audio``, in this process or in a subprocess."""

_MAX_RATIO_OF_DURATION, _MAX_MARGIN_OF_DURATION_S = 1.5, 1.0
"""A file that is longer than this many times its record's ``duration``, and by this much, holds more than the segment:
an encoder's padding and the pauses around a clip are less."""
_MAX_MARGIN_OF_TIMES_S: Seconds = 30.0
"""The same where a record has only its place in the video: clips are cut with context, but not with this much."""


@dataclass(frozen=True, slots=True)
class CorpusLimits:
    """Limits of one video: of its tar, and of the audio that the tar decodes to. Nothing is cut to fit a limit."""

    tar: TarLimits = field(default_factory=TarLimits)
    segment_s: Seconds = 3600.0
    """Models are asked about seconds of audio; an hour in one segment is a mistake of the transcription."""
    video_s: Seconds = 12 * 3600.0
    """YouTube's own limit. Decoded, it is 2.8 GB of memory."""
    decode_s: Seconds = 1800.0
    """Processor time to decode the files of a tar, damaged ones included. Twelve hours of Opus take 180 s."""


class VideoTooLong(Permanent):
    """A tar decodes to more audio than a video can have."""

    def __init__(self, key: str, limit_s: Seconds) -> None:
        self.key, self.limit_s = key, limit_s
        super().__init__(f"{key}: its segments hold more than {limit_s / 3600:g} h of audio")


def fetch_video(store: ObjectStore, key: str, video: Video, limits: CorpusLimits | None = None) -> DecodedVideo:
    """Read a video's tar from the store and decode every segment of it.

    A segment without usable audio or transcript is included, with a fault in place of its audio. Nothing of a broken
    tar is kept. A video during which a process crashed before (``video.crashes``) is decoded in a subprocess: if a
    decoder caused the crash, only the segments of that file are lost.

    Args:
        store: the store that holds the tar.
        key: the tar's object key.
        video: the video as the queue describes it. Its ``segment_count`` is not compared here.
        limits: how much the tar and its audio may be.

    Raises:
        Permanent: the video can never be read: ``ObjectMissing``, ``InvalidObjectKey``, ``TarCorrupt``, ``TarUnsafe``,
            ``BadLayout``, ``NoSegments`` or ``VideoTooLong``.
        Transient: the store could not be read: ``Unreachable``.
        BadInput: the store refuses this client: ``StoreRefused``. The video is not the cause and must not fail.
    """
    limits = limits or CorpusLimits()
    layout, tar_bytes = fetch_layout(store, key, limits)
    with subprocess_decoder() if video.crashes else nullcontext() as subprocess:
        decode, clock = (subprocess.decode, time.monotonic) if subprocess else (decode_audio, time.thread_time)
        segments = decode_layout(key, layout, video, limits, decode, clock=clock)
    return DecodedVideo(video, segments, tar_bytes, layout.kind)


def fetch_layout(store: ObjectStore, key: str, limits: CorpusLimits | None = None) -> tuple[Layout, int]:
    """Read a video's tar from the store without decoding its audio. Raises as ``fetch_video``.

    Returns:
        Its layout, and the bytes of the tar.
    """
    with stream_object(store, key) as stream:
        return read_layout(read_listing(stream, key, (limits or CorpusLimits()).tar)), stream.size_bytes


def decode_layout(
    key: str,
    layout: Layout,
    video: Video,
    limits: CorpusLimits,
    decode: Decoder = decode_audio,
    *,
    clock: Callable[[], Seconds] = time.thread_time,
) -> tuple[DecodedSegment, ...]:
    """Decode the audio of all segments of a tar. ``clock`` measures the time that decoding takes.

    Raises:
        VideoTooLong: they hold more audio than a video can have.
        TarUnsafe: decoding takes longer than allowed.
        BadLayout: the times of every segment lie outside its audio.
    """
    audio: dict[str, _Decoded] = {}
    started_s = clock()
    samples_left = limits.video_s * SAMPLE_RATE
    for name, outcome in _decode_refs(layout, limits, decode):
        samples_left -= 0 if isinstance(outcome.audio, Fault) else len(outcome.audio)
        if samples_left < 0:
            raise VideoTooLong(key, limits.video_s)
        if clock() - started_s > limits.decode_s:
            raise TarUnsafe(key, name, f"the audio of the tar took more than {limits.decode_s:g} s to decode")
        audio[name] = outcome
    _check_times(key, [outcome.audio for outcome in audio.values()])
    return tuple(DecodedSegment(_describe(ref, layout, video), *audio[ref.name]) for ref in layout.segments)


def _check_times(key: str, audio: Sequence[Waveform | Fault]) -> None:
    """Refuse a tar of which no segment has times inside its audio: they were misread, and no segment is to blame."""
    faults = [found for found in audio if isinstance(found, Fault) and found.kind == "bad_times"]
    if len(faults) == len(audio) > 1:
        raise BadLayout(
            key, f"none of its {len(audio)} records has times, in seconds, inside its audio: {faults[0].message}"
        )


def _describe(ref: SegmentRef, layout: Layout, video: Video) -> Segment:
    record = ref.record
    return Segment(
        video_id=video.video_id,
        name=ref.name,
        text=record.text or "",
        language=record.language or video.language or layout.language,
        start_s=record.start_s,
        end_s=record.end_s,
        speaker=record.speaker,
        audio_member=None if isinstance(ref.audio, Fault) else ref.audio.member,
    )


class _Decoded(NamedTuple):
    audio: Waveform | Fault
    length_difference_s: Seconds | None = None
    audio_offset_s: Seconds | None = None


def _decode_refs(layout: Layout, limits: CorpusLimits, decode: Decoder) -> Iterator[tuple[str, _Decoded]]:
    """Decode each audio file once, however many segments it holds, and yield each segment's name and audio."""
    refs_by_member: dict[str, list[tuple[SegmentRef, AudioSpan]]] = {}
    for ref in layout.segments:
        if isinstance(ref.audio, Fault):
            yield ref.name, _Decoded(ref.audio)
        else:
            refs_by_member.setdefault(ref.audio.member, []).append((ref, ref.audio))
    for member, refs in refs_by_member.items():
        is_sliced = any(span.span_s or _span_of_duration(ref.record) for ref, span in refs)
        whole = _attempt(decode, layout.audio[member], limits.video_s if is_sliced else limits.segment_s)
        for ref, span in refs:
            yield ref.name, _take(ref.record, span, whole, limits.segment_s)


def _take(record: Record, span: AudioSpan, whole: Waveform | Fault, limit_s: Seconds) -> _Decoded:
    """Take a segment's audio from its decoded file, and compare its length with what its record declares."""
    if isinstance(whole, Fault):
        return _Decoded(whole)
    declared_s, file_s = record.declared_s, len(whole) / SAMPLE_RATE
    cut_s = span.span_s
    if cut_s is None and declared_s is not None and _is_much_longer(file_s, record):
        cut_s = _span_of_duration(record)
        if cut_s is None:
            fault = Fault("bad_times", f"its record lasts {declared_s:.2f} s, and its file {file_s:.2f} s")
            return _Decoded(fault, file_s - declared_s)
    if cut_s is not None:
        audio = _attempt(slice_audio, whole, *cut_s, limit_s)
    elif file_s > limit_s:
        audio = Fault("too_long", f"the file holds more than {limit_s:.0f} s")
    else:
        audio = whole
    offset_s = cut_s[0] if cut_s is not None else None
    if declared_s is None or isinstance(audio, Fault):
        return _Decoded(audio, None, offset_s)
    return _Decoded(audio, len(audio) / SAMPLE_RATE - declared_s, offset_s)


def _span_of_duration(record: Record) -> tuple[Seconds, Seconds] | None:
    """Return the span of its file that a record's ``duration`` gives; None if it gives none.

    It starts at ``offset``, or at 0 where the record has no time at all. A ``start`` is the segment's place in the
    video, and says nothing of a place in the file.
    """
    start_s = record.offset_s if record.offset_s is not None or record.start_s is not None else 0.0
    if record.duration_s is None or start_s is None:
        return None
    return start_s, start_s + record.duration_s


def _is_much_longer(file_s: Seconds, record: Record) -> bool:
    """Return whether a file holds so much more than its record declares that the record is only a part of it."""
    if record.duration_s is None:
        return record.declared_s is not None and file_s > record.declared_s + _MAX_MARGIN_OF_TIMES_S
    return file_s > max(record.duration_s * _MAX_RATIO_OF_DURATION, record.duration_s + _MAX_MARGIN_OF_DURATION_S)


def _attempt(decode: Callable[..., Waveform], *args: object) -> Waveform | Fault:
    try:
        return decode(*args)
    except Undecodable as error:
        return error.fault

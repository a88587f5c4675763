"""Fetch a video from the object store: read its tar, find its segments and decode their audio."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from obstore.store import ObjectStore

from validation.corpus.audio import AudioDecodeError, decode_audio, slice_audio
from validation.corpus.budget import TarLimits, TimeLimit
from validation.corpus.decode_subprocess import subprocess_decoder
from validation.corpus.layouts import Layout, read_layout
from validation.corpus.records import Record
from validation.corpus.segment_refs import AudioSpan, BadLayout, SegmentRef, read_listing
from validation.corpus.tar import TarUnsafe
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Fault, Seconds, Segment, Video, Waveform
from validation.errors import Permanent
from validation.storage.store import stream_object

Decoder: TypeAlias = Callable[[bytes, Seconds], Waveform]
"""A function that decodes one audio file as ``decode_audio`` does, in this process or in a subprocess.

Its arguments are the file's bytes and the maximum length of the audio in seconds."""

_MAX_WHOLE_BYTES = 32 << 20
"""Maximum size of a tar that is downloaded as one block, which takes less processor time than a stream. Half an hour of
speech as FLAC has this size. The block is held beside the audio of the tar while the tar is read."""
_MAX_RATIO_OF_DURATION, _MAX_MARGIN_OF_DURATION_S = 1.5, 1.0
"""A file holds more than its segment if it is longer than this ratio times the record's ``duration``, and also longer
than the ``duration`` plus this margin. The padding of encoders and the pauses around a clip are shorter."""
_MAX_MARGIN_OF_TIMES_S: Seconds = 30.0
"""The margin for a record without ``duration``, whose ``start`` and ``end`` are times in the video. Clips are often cut
with some context before and after the segment, but with less than this."""


@dataclass(frozen=True, slots=True)
class CorpusLimits:
    """Limits on one video: on its tar, and on its decoded audio. Audio over a limit is rejected and never cut."""

    tar: TarLimits = field(default_factory=TarLimits)
    segment_s: Seconds = 3600.0
    """Maximum length of a segment. Segments usually last seconds; a segment of an hour is a transcription error."""
    video_s: Seconds = 12 * 3600.0
    """Maximum length of all segments together: YouTube's own limit. The decoded audio takes 2.8 GB of memory."""
    decode_s: Seconds = 1800.0
    """Maximum processor time to decode the files of a tar, damaged files included. If a subprocess decodes them, it is
    the maximum wall time. Twelve hours of Opus take 180 s."""


class VideoTooLong(Permanent):
    """The segments of a tar hold more audio than ``CorpusLimits.video_s``."""

    def __init__(self, key: str, limit_s: Seconds) -> None:
        self.key, self.limit_s = key, limit_s
        super().__init__(f"{key}: its segments hold more than {limit_s / 3600:g} h of audio")


def fetch_video(store: ObjectStore, key: str, video: Video, limits: CorpusLimits | None = None) -> DecodedVideo:
    """Read a video's tar from the store and decode all its segments.

    A segment without usable audio or transcript has a fault in place of its audio. A broken tar raises an error, and
    none of its segments is returned. If a process crashed earlier while it held the video (``video.crashes``), the
    audio is decoded in a subprocess. Then a crash of a decoder loses only the segments of one audio file.

    Args:
        store: the store that holds the tar.
        key: the tar's object key.
        video: the video as the queue describes it. Its ``segment_count`` is not compared here.
        limits: limits on the tar and its audio; None for the defaults.

    Raises:
        Permanent: the video can never be read: ``ObjectMissing``, ``InvalidObjectKey``, ``TarCorrupt``, ``TarUnsafe``,
            ``BadLayout``, ``NoSegments`` or ``VideoTooLong``.
        Transient: the store could not be read: ``Unreachable``.
        BadInput: the store rejects this client: ``StoreRefused``. The caller must not count this as a failure of the
            video.
    """
    limits = limits or CorpusLimits()
    layout, tar_bytes = fetch_layout(store, key, limits)
    with subprocess_decoder() if video.crashes else nullcontext() as subprocess:
        decode, clock = (subprocess.decode, time.monotonic) if subprocess else (decode_audio, time.thread_time)
        segments = decode_layout(key, layout, video, limits, decode, time_limit=TimeLimit(limits.decode_s, clock))
    return DecodedVideo(video, segments, tar_bytes, layout.kind)


def fetch_layout(store: ObjectStore, key: str, limits: CorpusLimits | None = None) -> tuple[Layout, int]:
    """Read a video's tar from the store without decoding its audio.

    Returns:
        The layout of the tar, and the size of the tar in bytes.

    Raises:
        Permanent, Transient, BadInput: as ``fetch_video``.
    """
    with stream_object(store, key, max_whole_bytes=_MAX_WHOLE_BYTES) as stream:
        return read_layout(read_listing(stream, key, (limits or CorpusLimits()).tar)), stream.size_bytes


def decode_layout(
    key: str,
    layout: Layout,
    video: Video,
    limits: CorpusLimits,
    decode: Decoder = decode_audio,
    *,
    time_limit: TimeLimit | None = None,
) -> tuple[DecodedSegment, ...]:
    """Decode the audio of all segments of a tar.

    Args:
        key: the tar's object key, for error messages.
        layout: the segments and the audio files of the tar.
        video: the video to which the segments belong.
        limits: limits on the audio.
        decode: the function that decodes one audio file.
        time_limit: measures the time that decoding takes; None for the processor time of this thread.

    Returns:
        The segments in the order of the layout.

    Raises:
        VideoTooLong: the segments hold more audio than ``limits.video_s``.
        TarUnsafe: decoding takes longer than ``limits.decode_s``.
        BadLayout: the tar has several segments, and the times of each lie outside its audio.
    """
    audio: dict[str, _Decoded] = {}
    time_limit = time_limit or TimeLimit(limits.decode_s)
    samples_left = limits.video_s * SAMPLE_RATE
    for name, outcome in _decode_refs(layout, limits, decode):
        samples_left -= 0 if isinstance(outcome.audio, Fault) else len(outcome.audio)
        if samples_left < 0:
            raise VideoTooLong(key, limits.video_s)
        if time_limit.is_exceeded():
            raise TarUnsafe(key, name, f"the audio of the tar took more than {limits.decode_s:g} s to decode")
        audio[name] = outcome
    _check_times(key, [outcome.audio for outcome in audio.values()])
    return tuple(DecodedSegment(_make_segment(ref, layout, video), *audio[ref.name]) for ref in layout.segments)


def _check_times(key: str, audio: Sequence[Waveform | Fault]) -> None:
    """Raise ``BadLayout`` if all of several segments have times outside their audio: then the times were misread."""
    faults = [found for found in audio if isinstance(found, Fault) and found.kind == "bad_times"]
    if len(faults) == len(audio) > 1:
        raise BadLayout(
            key, f"none of its {len(audio)} records has times, in seconds, inside its audio: {faults[0].message}"
        )


def _make_segment(ref: SegmentRef, layout: Layout, video: Video) -> Segment:
    """Return the description of a segment; a missing language is that of the queue, else that of the tar."""
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
    """The fields of a ``DecodedSegment``, without its ``segment``."""

    audio: Waveform | Fault
    length_difference_s: Seconds | None = None
    audio_offset_s: Seconds | None = None


def _decode_refs(layout: Layout, limits: CorpusLimits, decode: Decoder) -> Iterator[tuple[str, _Decoded]]:
    """Yield the name and the audio of each segment. An audio file with several segments is decoded only once."""
    refs_by_member: dict[str, list[tuple[SegmentRef, AudioSpan]]] = {}
    for ref in layout.segments:
        if isinstance(ref.audio, Fault):
            yield ref.name, _Decoded(ref.audio)
        else:
            refs_by_member.setdefault(ref.audio.member, []).append((ref, ref.audio))
    for member, refs in refs_by_member.items():
        is_sliced = any(span.span_s or _span_of_duration(ref.record) for ref, span in refs)
        whole = _decode_or_fault(decode, layout.audio[member], limits.video_s if is_sliced else limits.segment_s)
        for ref, span in refs:
            yield ref.name, _cut_segment(ref.record, span, whole, limits.segment_s)


def _cut_segment(record: Record, span: AudioSpan, whole: Waveform | Fault, limit_s: Seconds) -> _Decoded:
    """Return a segment's audio from the decoded file, and the difference from the length that the record declares.

    Args:
        record: the record of the segment.
        span: the span of the file that the layout gives; without times for the whole file.
        whole: the decoded file, or the fault of the file.
        limit_s: maximum length of the segment.
    """
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
        audio = _decode_or_fault(slice_audio, whole, *cut_s, limit_s)
    elif file_s > limit_s:
        audio = Fault("too_long", f"the file holds more than {limit_s:.0f} s")
    else:
        audio = whole
    offset_s = cut_s[0] if cut_s is not None else None
    if declared_s is None or isinstance(audio, Fault):
        return _Decoded(audio, None, offset_s)
    return _Decoded(audio, len(audio) / SAMPLE_RATE - declared_s, offset_s)


def _span_of_duration(record: Record) -> tuple[Seconds, Seconds] | None:
    """Return the span of the audio file that a record's ``duration`` and ``offset`` describe, as start and end.

    A record without any time starts at 0. The result is None if the record has no ``duration``, or has a ``start`` but
    no ``offset``: a ``start`` is a time in the video and not a position in the file.
    """
    start_s = record.offset_s if record.offset_s is not None or record.start_s is not None else 0.0
    if record.duration_s is None or start_s is None:
        return None
    return start_s, start_s + record.duration_s


def _is_much_longer(file_s: Seconds, record: Record) -> bool:
    """Return whether a file is so much longer than its record declares that the record describes only a part of it."""
    if record.duration_s is None:
        return record.declared_s is not None and file_s > record.declared_s + _MAX_MARGIN_OF_TIMES_S
    return file_s > max(record.duration_s * _MAX_RATIO_OF_DURATION, record.duration_s + _MAX_MARGIN_OF_DURATION_S)


def _decode_or_fault(decode: Callable[..., Waveform], *args: object) -> Waveform | Fault:
    """Call ``decode``; return its result, or the fault of its ``AudioDecodeError``."""
    try:
        return decode(*args)
    except AudioDecodeError as error:
        return error.fault

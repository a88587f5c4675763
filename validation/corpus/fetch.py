"""Fetch a video from the object store: read its tar, find its segments and decode their audio."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias

from obstore.store import ObjectStore

from validation.corpus.audio import Undecodable, decode_audio, slice_audio
from validation.corpus.decode_subprocess import subprocess_decoder
from validation.corpus.layouts import Layout, read_layout
from validation.corpus.segment_refs import AudioSpan, SegmentRef, is_wanted
from validation.corpus.tar import TarLimits, read_members
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Fault, Seconds, Segment, Video, Waveform
from validation.errors import Permanent
from validation.storage.store import stream_object

Decoder: TypeAlias = Callable[[bytes, Seconds], Waveform]
"""``decode_audio``, in this process or in a subprocess."""


@dataclass(frozen=True, slots=True)
class CorpusLimits:
    """Limits of one video: of its tar, and of the audio that the tar decodes to. Nothing is cut to fit a limit."""

    tar: TarLimits = field(default_factory=TarLimits)
    segment_s: Seconds = 3600.0
    """Models are asked about seconds of audio; an hour in one segment is a mistake of the transcription."""
    video_s: Seconds = 12 * 3600.0
    """YouTube's own limit. Decoded, it is 2.8 GB of memory."""


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
    with stream_object(store, key) as stream:
        layout = read_layout(key, read_members(stream, key, limits.tar, keep=is_wanted))
    with subprocess_decoder() if video.crashes else nullcontext() as subprocess:
        audio = _decode_segments(key, layout, limits, subprocess.decode if subprocess else decode_audio)
    segments = tuple(DecodedSegment(_describe(ref, layout, video), audio[ref.name]) for ref in layout.segments)
    return DecodedVideo(video, segments, stream.size_bytes, layout.kind)


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
    )


def _decode_segments(key: str, layout: Layout, limits: CorpusLimits, decode: Decoder) -> dict[str, Waveform | Fault]:
    audio: dict[str, Waveform | Fault] = {}
    samples_left = limits.video_s * SAMPLE_RATE
    for name, outcome in _decode_refs(layout, limits, decode):
        samples_left -= 0 if isinstance(outcome, Fault) else len(outcome)
        if samples_left < 0:
            raise VideoTooLong(key, limits.video_s)
        audio[name] = outcome
    return audio


def _decode_refs(layout: Layout, limits: CorpusLimits, decode: Decoder) -> Iterator[tuple[str, Waveform | Fault]]:
    """Decode each audio file once, however many segments it holds, and yield each segment's name and audio."""
    refs_by_member: dict[str, list[tuple[str, AudioSpan]]] = {}
    for ref in layout.segments:
        if isinstance(ref.audio, Fault):
            yield ref.name, ref.audio
        else:
            refs_by_member.setdefault(ref.audio.member, []).append((ref.name, ref.audio))
    for member, spans in refs_by_member.items():
        sliced = any(span.span_s for _, span in spans)
        whole = _attempt(decode, layout.audio[member], limits.video_s if sliced else limits.segment_s)
        for name, span in spans:
            yield name, _slice(span, whole, limits.segment_s)


def _slice(span: AudioSpan, whole: Waveform | Fault, limit_s: Seconds) -> Waveform | Fault:
    if isinstance(whole, Fault) or span.span_s is None:
        return whole
    return _attempt(slice_audio, whole, *span.span_s, limit_s)


def _attempt(decode: Callable[..., Waveform], *args: object) -> Waveform | Fault:
    try:
        return decode(*args)
    except Undecodable as error:
        return error.fault

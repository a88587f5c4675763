"""From a key in the store to a video that can be scored."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TypeAlias

from obstore.store import ObjectStore

from validation.corpus.decode import Undecodable, decode_audio, slice_audio
from validation.corpus.decode_subprocess import subprocess_decoder
from validation.corpus.layouts import Layout, read_layout
from validation.corpus.limits import CorpusLimits
from validation.corpus.listing import is_wanted
from validation.corpus.segment_refs import AudioSpan, SegmentRef
from validation.corpus.tar import read_members
from validation.domain import SAMPLE_RATE, DecodedSegment, DecodedVideo, Fault, Seconds, Segment, Video, Waveform
from validation.errors import Permanent
from validation.storage.store import stream_object

Decoder: TypeAlias = Callable[[bytes, Seconds], Waveform]
"""``decode_audio``, here or elsewhere."""


class VideoTooLong(Permanent):
    """A tar decodes to more audio than a video can have."""

    def __init__(self, key: str, limit_s: Seconds) -> None:
        self.key, self.limit_s = key, limit_s
        super().__init__(f"{key}: its segments hold more than {limit_s / 3600:g} h of audio")


def fetch_video(store: ObjectStore, key: str, video: Video, limits: CorpusLimits | None = None) -> DecodedVideo:
    """Read a video's tar from the store and decode every segment of it.

    A segment without usable audio or transcript is there all the same, with its fault in the audio's place. Of a
    broken tar nothing is kept. A video under which a process died is decoded in a process of its own: if it was a
    decoder that died, only the segments of that file are lost.

    Args:
        store: where the tar lies.
        key: under what name.
        video: what the queue says of it. Its ``segment_count`` is not compared here.
        limits: how much the tar and its audio may be.

    Raises:
        Permanent: the video can never be read: ``ObjectMissing``, ``CredentialRejected``, ``TarCorrupt``,
        ``TarUnsafe``,
            ``BadLayout``, ``NoSegments`` or ``VideoTooLong``.
        Transient: the store could not be read: ``Unreachable``.
        BadInput: the store refuses us: ``StoreRefused``. The video is not to blame, so it is not to fail.
    """
    limits = limits or CorpusLimits()
    with stream_object(store, key) as stream:
        layout = read_layout(key, read_members(stream, key, limits.tar, keep=is_wanted))
    with subprocess_decoder() if video.crashes else nullcontext() as apart:
        audio = _decode_segments(key, layout, limits, apart.decode if apart else decode_audio)
    segments = tuple(DecodedSegment(_describe(claim, layout, video), audio[claim.name]) for claim in layout.claims)
    return DecodedVideo(video, segments, stream.size_bytes, layout.kind)


def _describe(claim: SegmentRef, layout: Layout, video: Video) -> Segment:
    record = claim.record
    return Segment(
        video_id=video.video_id,
        name=claim.name,
        text=record.text or "",
        language=record.language or video.language or layout.language,
        start_s=record.start_s,
        end_s=record.end_s,
        speaker=record.speaker,
    )


def _decode_segments(key: str, layout: Layout, limits: CorpusLimits, decode: Decoder) -> dict[str, Waveform | Fault]:
    audio: dict[str, Waveform | Fault] = {}
    samples_left = limits.video_s * SAMPLE_RATE
    for name, outcome in _decode_claims(layout, limits, decode):
        samples_left -= 0 if isinstance(outcome, Fault) else len(outcome)
        if samples_left < 0:
            raise VideoTooLong(key, limits.video_s)
        audio[name] = outcome
    return audio


def _decode_claims(layout: Layout, limits: CorpusLimits, decode: Decoder) -> Iterator[tuple[str, Waveform | Fault]]:
    """Decode each audio file once, however many segments it holds, and yield each segment's name and audio."""
    claims_by_member: dict[str, list[tuple[str, AudioSpan]]] = {}
    for claim in layout.claims:
        if isinstance(claim.audio, Fault):
            yield claim.name, claim.audio
        else:
            claims_by_member.setdefault(claim.audio.member, []).append((claim.name, claim.audio))
    for member, cuts in claims_by_member.items():
        sliced = any(cut.stretch_s for _, cut in cuts)
        whole = _attempt(decode, layout.audio[member], limits.video_s if sliced else limits.segment_s)
        for name, cut in cuts:
            yield name, _take(cut, whole, limits.segment_s)


def _take(cut: AudioSpan, whole: Waveform | Fault, limit_s: Seconds) -> Waveform | Fault:
    if isinstance(whole, Fault) or cut.stretch_s is None:
        return whole
    return _attempt(slice_audio, whole, *cut.stretch_s, limit_s)


def _attempt(decode: Callable[..., Waveform], *args: object) -> Waveform | Fault:
    try:
        return decode(*args)
    except Undecodable as error:
        return error.fault

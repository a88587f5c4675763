"""Audio of the few segments that the report shows, fetched from their source tars."""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from io import BytesIO
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

import soundfile
from obstore.store import ObjectStore

from validation.corpus.fetch import fetch_video
from validation.domain import SAMPLE_RATE, Fault, Seconds, Video, Waveform
from validation.errors import FleetError

MAX_SAMPLE_S: Seconds = 30.0
"""Longest sample in the page; a longer segment is cut. 30 s are about half a megabyte of the page."""

SegmentKey: TypeAlias = tuple[str, str]
"""A video's id and a segment's name."""


def fetch_audio(
    rows: Iterable[Mapping[str, Any]], store: ObjectStore, source_key: str
) -> dict[SegmentKey, str | Fault]:
    """Fetch the first 30 s of some segments as data URIs; each video's tar is read once.

    Args:
        rows: with ``video_id`` and ``segment``.
        store: where the tars are.
        source_key: a tar's key, with ``{video_id}`` in it.

    Returns:
        Per segment its audio (FLAC, so that noise and clipping stay audible), or the reason why there is none.
    """
    keys = sorted({(row["video_id"], row["segment"]) for row in rows})
    samples: dict[SegmentKey, str | Fault] = {}
    for video_id, group in groupby(keys, key=itemgetter(0)):
        audio = _fetch_segments(video_id, store, source_key.format(video_id=video_id))
        missing = audio if isinstance(audio, Fault) else Fault("no_segment", "the tar no longer holds this segment")
        for key in group:
            found = missing if isinstance(audio, Fault) else audio.get(key[1], missing)
            samples[key] = found if isinstance(found, Fault) else encode_audio(found)
    return samples


def encode_audio(samples: Waveform) -> str:
    """Encode at most 30 s of samples as a FLAC data URI."""
    flac = BytesIO()
    soundfile.write(flac, samples[: int(MAX_SAMPLE_S * SAMPLE_RATE)], SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{b64encode(flac.getvalue()).decode()}"


def _fetch_segments(video_id: str, store: ObjectStore, key: str) -> dict[str, Waveform | Fault] | Fault:
    try:
        decoded = fetch_video(store, key, Video(video_id, None, None))
    except FleetError as error:
        return Fault("not_fetched", str(error))
    return {segment.segment.name: segment.audio for segment in decoded.segments}

"""What a segment sounds like, fetched from its source for the few that are shown."""

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

LONGEST_S: Seconds = 30.0
"""What is kept of a long segment: half a minute tells, and weighs half a megabyte in the page."""

Place: TypeAlias = tuple[str, str]
"""A video's id and a segment's name."""


def fetch_audio(samples: Iterable[Mapping[str, Any]], store: ObjectStore, source_key: str) -> dict[Place, str | Fault]:
    """Fetch the beginnings of some segments as data URIs, reading each video's tar once.

    Args:
        samples: rows with ``video_id`` and ``segment``.
        store: where the tars lie.
        source_key: a tar's key, with ``{video_id}`` in it.

    Returns:
        For each its audio (FLAC, so that noise and clipping are heard as they are), or why there is none.
    """
    places = sorted({(row["video_id"], row["segment"]) for row in samples})
    heard: dict[Place, str | Fault] = {}
    for video_id, group in groupby(places, key=itemgetter(0)):
        audio = _fetch_segments(video_id, store, source_key.format(video_id=video_id))
        missing = audio if isinstance(audio, Fault) else Fault("no_segment", "its tar holds no such segment any more")
        for place in group:
            found = missing if isinstance(audio, Fault) else audio.get(place[1], missing)
            heard[place] = found if isinstance(found, Fault) else encode_audio(found)
    return heard


def encode_audio(samples: Waveform) -> str:
    """Write samples as an address that plays by itself."""
    flac = BytesIO()
    soundfile.write(flac, samples[: int(LONGEST_S * SAMPLE_RATE)], SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{b64encode(flac.getvalue()).decode()}"


def _fetch_segments(video_id: str, store: ObjectStore, key: str) -> dict[str, Waveform | Fault] | Fault:
    try:
        decoded = fetch_video(store, key, Video(video_id, None, None))
    except FleetError as error:
        return Fault("not_fetched", str(error))
    return {segment.segment.name: segment.audio for segment in decoded.segments}

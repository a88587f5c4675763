"""Decoding in a process that may die of it: the process is real, and so are its deaths."""

from dataclasses import replace

import pytest
from obstore.store import MemoryStore

from tests.support import fragile_decoder
from tests.support.corpus_samples import CLIPS, encode, read_speech
from tests.support.fragile_decoder import ENDLESS, KILLER
from validation.corpus import decode_subprocess as decode_apart
from validation.corpus.decode import Undecodable, decode_audio
from validation.corpus.fetch import fetch_video
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import Fault, Video
from validation.storage.store import put_once

SPEECH = encode(read_speech())
SUSPECT = Video("v1", "en", segment_count=3, crashes=1)


@pytest.fixture
def fragile(monkeypatch):
    """The decoder apart has a native fault."""
    monkeypatch.setattr(decode_apart, "COMMAND", fragile_decoder.COMMAND)


def fetch_suspect(segments: list[PackedSegment]) -> list[str]:
    store = MemoryStore()
    put_once(store, "v1.tar", pack_video(SUSPECT, segments))
    video = fetch_video(store, "v1.tar", SUSPECT)
    return [s.audio.kind if isinstance(s.audio, Fault) else "heard" for s in video.segments]


def outcome(decode, payload: bytes) -> Fault | list[float]:
    try:
        return decode(payload, 60.0).tolist()
    except Undecodable as error:
        return error.fault


def test_apart_is_as_here():
    """Where nothing dies it makes no difference: the same samples, the same refusals, in any order."""
    payloads = [SPEECH, b"", (CLIPS / "hi_ginti.flac").read_bytes(), b"no audio", SPEECH[:5000], SPEECH]
    with decode_apart.subprocess_decoder() as apart:
        assert [outcome(apart.decode, payload) for payload in payloads] == [
            outcome(decode_audio, payload) for payload in payloads
        ]
        apart.decode(SPEECH)[:] = 0  # a model may write into it, as into any other


def test_a_segment_that_kills_its_decoder_is_lost_alone(fragile):
    """The guilty segment is a row with that reason; what comes before and after it is heard."""
    sound = PackedSegment(read_speech(), "words")
    guilty = replace(sound, audio=SPEECH + KILLER)
    assert fetch_suspect([sound, guilty, sound, guilty]) == ["heard", "decoder_crashed", "heard", "decoder_crashed"]


@pytest.mark.parametrize(
    ("mark", "reason"), [(KILLER, "its decoder died: SIGSEGV"), (ENDLESS, "its decoder did not end within 120 s")]
)
def test_the_end_of_a_decoder_is_told(fragile, mark, reason):
    """The fault says how the process ended: of a signal, or because it took too long."""
    with decode_apart.subprocess_decoder() as apart, pytest.raises(Undecodable, match=reason):
        apart.decode(SPEECH + mark)


def test_a_decoder_ends_with_who_asks_it():
    """Nothing is left running: a decoder whose input ends has ended."""
    with decode_apart.subprocess_decoder() as apart:
        apart.decode(SPEECH)
        process = apart._process
    assert process.returncode == 0

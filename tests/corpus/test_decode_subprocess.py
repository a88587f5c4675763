"""The subprocess decoder, with real subprocesses that really crash."""

from dataclasses import replace

import pytest
from obstore.store import MemoryStore

from tests.support import fragile_decoder
from tests.support.corpus_samples import CLIPS, encode, read_speech
from tests.support.fragile_decoder import ENDLESS, KILLER
from validation.corpus import decode_subprocess
from validation.corpus.audio import AudioDecodeError, decode_audio
from validation.corpus.fetch import fetch_video
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import Fault, Video
from validation.storage.store import put_if_absent

SPEECH = encode(read_speech())
SUSPECT = Video("v1", "en", segment_count=3, crashes=1)


@pytest.fixture
def fragile(monkeypatch):
    """The subprocess decoder crashes on marked files."""
    monkeypatch.setattr(decode_subprocess, "COMMAND", fragile_decoder.COMMAND)


def fetch_suspect(segments: list[PackedSegment]) -> list[str]:
    store = MemoryStore()
    put_if_absent(store, "v1.tar", pack_video(SUSPECT, segments))
    video = fetch_video(store, "v1.tar", SUSPECT)
    return [s.audio.kind if isinstance(s.audio, Fault) else "decoded" for s in video.segments]


def outcome(decode, payload: bytes) -> Fault | list[float]:
    try:
        return decode(payload, 60.0).tolist()
    except AudioDecodeError as error:
        return error.fault


def test_the_subprocess_decodes_as_this_process_does():
    """The same samples and the same faults, in any order."""
    payloads = [SPEECH, b"", (CLIPS / "hi_ginti.flac").read_bytes(), b"no audio", SPEECH[:5000], SPEECH]
    with decode_subprocess.subprocess_decoder() as decoder:
        assert [outcome(decoder.decode, payload) for payload in payloads] == [
            outcome(decode_audio, payload) for payload in payloads
        ]
        decoder.decode(SPEECH)[:] = 0  # a model may write into it, as into any other


def test_a_file_that_crashes_the_decoder_fails_alone(fragile):
    """Its segment has the fault ``decoder_crashed``; the segments before and after it are decoded."""
    sound = PackedSegment(read_speech(), "words")
    crashing = replace(sound, audio=SPEECH + KILLER)
    assert fetch_suspect([sound, crashing, sound, crashing]) == [
        "decoded",
        "decoder_crashed",
        "decoded",
        "decoder_crashed",
    ]


@pytest.mark.parametrize(
    ("mark", "reason"), [(KILLER, "its decoder died: SIGSEGV"), (ENDLESS, "its decoder did not end within 120 s")]
)
def test_the_fault_says_how_the_decoder_ended(fragile, mark, reason):
    """By a signal, or by the timeout."""
    with decode_subprocess.subprocess_decoder() as decoder, pytest.raises(AudioDecodeError, match=reason):
        decoder.decode(SPEECH + mark)


def test_the_subprocess_ends_with_its_context():
    """A subprocess whose input ends exits with status 0."""
    with decode_subprocess.subprocess_decoder() as decoder:
        decoder.decode(SPEECH)
        process = decoder._process
    assert process.returncode == 0

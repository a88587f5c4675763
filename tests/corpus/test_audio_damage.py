"""A container that contradicts itself, and a stream with a piece missing in the middle, are undecodable."""

import re
import struct

import numpy as np
import pytest

from tests.support.audio_samples import ENCODED, RATE_48K, SPEECH, fault_of
from tests.support.corpus_samples import encode, encode_with_ffmpeg
from validation.corpus.audio import decode_audio
from validation.domain import SAMPLE_RATE

LONG = np.tile(SPEECH, 2)


def without(payload: bytes, start: float, stop: float) -> bytes:
    return payload[: int(start * len(payload))] + payload[int(stop * len(payload)) :]


def headerless_mp3() -> bytes:
    """Return an MP3 whose first frame, which declares the length, is cut off."""
    payload = ENCODED["mp3"]
    return payload[payload.index(payload[:2], re.search(b"Xing|Info", payload).start() + 100) :]


@pytest.mark.parametrize("damage", [lambda mp3: without(mp3, 0.4, 0.6), lambda mp3: mp3[:-20]])
def test_an_mp3_without_a_length_is_checked_frame_by_frame(damage):
    """A decoder passes over what is missing between two frames, and over a last frame that is cut off."""
    whole = headerless_mp3()
    assert abs(len(decode_audio(whole)) - len(SPEECH)) < 0.2 * SAMPLE_RATE
    assert re.search("is damaged at byte|is cut off", fault_of(damage(whole)).message)


def test_tags_behind_and_between_the_frames_of_an_mp3_are_no_damage():
    """Two files that were appended, each with its tags, are one stream."""
    tagged = headerless_mp3() + b"TAG" + bytes(125)
    assert len(decode_audio(tagged + b"ID3\x03\0\0\0\0\0\x0a" + bytes(10) + tagged)) > 1.9 * len(SPEECH)
    assert len(decode_audio(tagged + b"APETAGEX" + b"x" * 9000)) > 0.95 * len(SPEECH)


def test_a_xing_header_that_counts_too_few_frames_is_not_believed():
    """The frames themselves decide; of a file of two that were appended, both are heard."""
    assert len(decode_audio(ENCODED["mp3"] * 2)) > 1.9 * len(SPEECH)


@pytest.mark.parametrize(("start", "value"), [(21, 0x100), (18, 0x0AC44)])
def test_a_flac_whose_header_contradicts_its_frames_is_undecodable(start, value):
    """Too few samples, or another rate: libsndfile would stop early, or play it at another speed."""
    payload = bytearray(ENCODED["flac"])
    if start == 18:
        payload[18:21] = (value << 4 | payload[20] & 0x0F).to_bytes(3, "big")
    else:
        payload[22:26] = value.to_bytes(4, "big")
    assert re.search("header (contradicts|declares)", fault_of(bytes(payload)).message)


@pytest.mark.parametrize("container", ["W64", "AIFF"])
def test_a_cut_container_of_samples_is_undecodable(container):
    """Its header says how many bytes of samples follow."""
    payload = encode(SPEECH, container, "PCM_16")
    np.testing.assert_array_equal(decode_audio(payload), SPEECH)
    assert fault_of(payload[: len(payload) // 2]).kind == "undecodable"


def test_an_aiff_whose_samples_begin_later_is_undecodable():
    """An offset that leaves fewer bytes than the frames need contradicts the number of frames."""
    payload = bytearray(encode(SPEECH, "AIFF", "PCM_16"))
    struct.pack_into(">I", payload, payload.index(b"SSND") + 8, 30_000)
    assert "contradicts itself" in fault_of(bytes(payload)).message


def test_a_cut_wma_is_undecodable():
    """FFmpeg guesses the length from the bytes that are there; the header has the size of the file."""
    payload = encode_with_ffmpeg(SPEECH, "asf", "wmav2")
    assert abs(len(decode_audio(payload)) - len(SPEECH)) < 0.15 * SAMPLE_RATE
    assert "of 29" in fault_of(payload[: len(payload) // 4]).message


def test_an_mp4_with_an_empty_movie_header_is_undecodable():
    """Any other error would be an error of the program, and would return the video to the queue without an attempt."""
    boxes = b"".join(struct.pack(">I4s", 8, name) for name in (b"trak", b"mvhd"))
    assert fault_of(struct.pack(">I4s", 8 + len(boxes), b"moov") + boxes).kind == "undecodable"


def test_an_mp4_whose_sample_table_ends_early_is_undecodable():
    """FFmpeg computes the length from the table; the movie header declares another one."""
    payload = bytearray(ENCODED["m4a"])
    place = payload.index(b"stts") + 12
    struct.pack_into(">I", payload, place, struct.unpack_from(">I", payload, place)[0] // 4)
    assert fault_of(bytes(payload)).kind == "undecodable"


def test_a_live_webm_with_a_hole_is_undecodable():
    """It declares no length, but its clusters have times."""
    payload = encode_with_ffmpeg(
        np.tile(SPEECH, 6), "webm", "libopus", RATE_48K, options={"live": "1", "cluster_time_limit": "1000"}
    )
    clusters = [match.start() for match in re.finditer(b"\x1f\x43\xb6\x75", payload)]
    assert len(decode_audio(payload)) > 5.9 * len(SPEECH)
    assert "time jumps by" in fault_of(payload[: clusters[2]] + payload[clusters[3] :]).message
    assert "damaged at byte" in fault_of(without(payload, 0.4, 0.5)).message


@pytest.mark.parametrize("kind", ["IMA_ADPCM", "MS_ADPCM", "ULAW"])
def test_a_compressed_wav_that_contradicts_itself_is_undecodable(kind):
    """A sample rate that does not fit the bytes per second would change the speed."""
    payload = bytearray(encode(LONG, "WAV", kind))
    assert abs(len(decode_audio(bytes(payload))) - len(LONG)) < 0.1 * SAMPLE_RATE
    struct.pack_into("<I", payload, 24, 3 * SAMPLE_RATE)
    assert "contradicts itself" in fault_of(bytes(payload)).message

"""A file's length is known, unknown or wrong, and each case is told apart."""

import re
import struct

import numpy as np
import pytest

from tests.support.audio_samples import ENCODED, RATE_48K, SPEECH, fault_of
from tests.support.corpus_samples import encode, encode_with_ffmpeg
from validation.corpus.audio import decode_audio
from validation.domain import SAMPLE_RATE

UNKNOWN_SIZES = [
    (0xFFFFFFFF, 0xFFFFFFFF),
    (0x7FFFF024, 0x7FFFF000),
    (0x80000024, 0x80000000),
    (36, 0),
    (0, 0),
    (0x7FFFFFFF, 0x7FFFFFDB),
]


@pytest.mark.parametrize("sizes", UNKNOWN_SIZES)
def test_a_wav_without_sizes_is_decoded_whole(sizes):
    """An encoder that writes to a pipe cannot write the sizes: FFmpeg, SoX, arecord and others leave placeholders."""
    payload = with_sizes(ENCODED["wav"], *sizes)
    np.testing.assert_array_equal(decode_audio(payload), SPEECH)
    np.testing.assert_array_equal(decode_audio(payload + b"\x01"), SPEECH)  # half of a sample


def test_a_wav_that_is_cut_behind_a_placeholder_has_an_unknown_length():
    """Nothing shows that it is cut: what is there is decoded, and the record's duration is compared afterwards."""
    payload = with_sizes(ENCODED["wav"], 0x7FFFF024, 0x7FFFF000)
    np.testing.assert_array_equal(decode_audio(payload[: 44 + 32_000]), SPEECH[:16_000])


@pytest.mark.parametrize("sizes", [(96_000, 95_680), (36, 1000), (1036, 1000)])
def test_a_wav_with_wrong_sizes_is_undecodable(sizes):
    """More bytes than there are, or samples behind the samples, are a wrong length and not an unknown one."""
    assert fault_of(with_sizes(ENCODED["wav"], *sizes)).kind == "undecodable"


def test_an_empty_wav_with_a_tag_is_too_short():
    """No samples before a chunk are no samples; a size of 0 is a placeholder only before samples."""
    tag = b"LIST" + struct.pack("<I", 12) + b"INFOISFT" + bytes(4)
    assert fault_of(with_sizes(ENCODED["wav"][:44] + tag, 36 + len(tag), 0)).kind == "too_short"


def test_a_tag_behind_the_samples_is_no_sound():
    """Chunks and zeros that follow the samples are left out, and make no length wrong."""
    tag = b"LIST" + struct.pack("<I", 12) + b"INFOISFT" + bytes(4)
    payload = ENCODED["wav"]
    np.testing.assert_array_equal(decode_audio(with_sizes(payload + tag, len(payload) + len(tag) - 8, None)), SPEECH)
    np.testing.assert_array_equal(decode_audio(payload + bytes(20_000)), SPEECH)


def test_a_header_that_contradicts_itself_is_undecodable():
    """A damaged sample rate would play the samples at a wrong speed."""
    payload = bytearray(ENCODED["wav"])
    struct.pack_into("<I", payload, 24, 2 * SAMPLE_RATE)
    assert "contradicts itself" in fault_of(bytes(payload)).message


@pytest.mark.parametrize("form", ["RF64", "AIFF"])
def test_other_chunked_formats_know_their_length(form):
    """RF64 has its sizes in a chunk of their own, AIFF in big-endian order; a cut file is undecodable."""
    payload = encode(SPEECH, form, "PCM_16")
    np.testing.assert_array_equal(decode_audio(payload), SPEECH)
    for kept in (0.3, 0.85):
        assert fault_of(payload[: int(kept * len(payload))]).kind == "undecodable"


def test_an_aiff_without_sizes_is_decoded_whole():
    """SoX writes placeholders in AIFF too."""
    payload = bytearray(encode(SPEECH, "AIFF", "PCM_16"))
    place = payload.index(b"SSND") + 4
    struct.pack_into(">I", payload, 4, 0x7F00002E)
    struct.pack_into(">I", payload, place, 0x7F000008)
    struct.pack_into(">I", payload, payload.index(b"COMM") + 10, 0x3F800000)
    np.testing.assert_array_equal(decode_audio(bytes(payload)), SPEECH)


def test_an_rf64_without_sizes_is_decoded_whole():
    """A recorder that was killed leaves zeros in the chunk of the sizes."""
    payload = bytearray(encode(SPEECH, "RF64", "PCM_16"))
    place = payload.index(b"ds64") + 8
    payload[place : place + 24] = bytes(24)
    np.testing.assert_array_equal(decode_audio(bytes(payload)), SPEECH)


def test_a_flac_without_a_total_is_decoded_whole():
    """An encoder that writes to a pipe leaves 0 in place of the number of samples."""
    payload = bytearray(ENCODED["flac"])
    payload[21:26] = bytes([payload[21] & 0xF0, 0, 0, 0, 0])
    payload[26:42] = bytes(16)  # the MD5 of the samples is not known either
    np.testing.assert_array_equal(decode_audio(bytes(payload)), SPEECH)


def id3(size: int, text: bytes = b"x") -> bytes:
    """Build an ID3v2.3 tag whose only frame holds ``text`` in ``size`` bytes."""
    frame = b"TXXX" + struct.pack(">IH", size, 0) + (text * size)[:size]
    length = len(frame)
    return b"ID3\x03\x00\x00" + bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0)) + frame


@pytest.mark.parametrize("kind", ["mp3", "flac"])
@pytest.mark.parametrize("size", [10, 100_000])
def test_a_tag_of_any_size_hides_no_length(kind, size):
    """A cover picture may take 100 KB: the header that declares the length lies behind it."""
    payload = id3(size) + ENCODED[kind]
    assert abs(len(decode_audio(payload)) - len(SPEECH)) < 0.15 * SAMPLE_RATE
    assert fault_of(payload[: size + (len(payload) - size) // 2]).kind == "undecodable"


@pytest.mark.parametrize("word", [b"Information ", b"Xing "])
def test_a_word_in_a_tag_is_no_length(word):
    """An MP3 without a Xing header declares no length, whatever its title is."""
    payload = ENCODED["mp3"]
    header = re.search(b"Xing|Info", payload).start()
    frames = payload[payload.index(payload[:2], header + 100) :]
    heard = decode_audio(id3(500, word) + frames)
    assert abs(len(heard) - len(SPEECH)) < 0.2 * SAMPLE_RATE


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg vorbis", "webm opus"])
def test_a_tag_before_any_format_is_skipped(kind):
    """Taggers put one there against the format's specification; a cut file is still found."""
    tagged = id3(300) + ENCODED[kind]
    np.testing.assert_array_equal(decode_audio(tagged), decode_audio(ENCODED[kind]))
    assert fault_of(tagged[: len(tagged) // 2]).kind == "undecodable"


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_mulaw", "adpcm_ima_wav", "adpcm_ms"])
def test_a_wav_that_states_no_bytes_per_second_is_decoded(codec):
    """Some writers leave the number 0. Any other number must agree with the rest of the header."""
    payload = bytearray(encode_with_ffmpeg(SPEECH, "wav", codec))
    place = payload.index(b"fmt ") + 16
    payload[place : place + 4] = bytes(4)
    assert len(decode_audio(bytes(payload))) == pytest.approx(len(SPEECH), abs=SAMPLE_RATE / 8)
    payload[place : place + 4] = struct.pack("<I", 7)
    assert "contradicts itself" in fault_of(bytes(payload)).message


def pages(payload: bytes) -> list[bytes]:
    """Split an Ogg stream into its pages."""
    return [b"OggS" + part for part in payload.split(b"OggS")[1:]]


@pytest.mark.parametrize("kind", ["ogg vorbis", "ogg opus"])
def test_ogg_without_its_end_flag_is_decoded_if_its_last_page_is_whole(kind):
    """Android's recorder does not write the flag; a page that is cut off is still an error."""
    *first, last = pages(ENCODED[kind])
    unflagged = bytearray(last)
    unflagged[5] &= ~4
    payload = b"".join(first) + with_checksum(unflagged)
    assert abs(len(decode_audio(payload)) - len(SPEECH)) < 0.15 * SAMPLE_RATE
    assert fault_of(payload[:-1]).message == "the last page is cut off"


@pytest.mark.parametrize("kind", ["ogg vorbis", "ogg opus"])
def test_a_damaged_or_missing_ogg_page_is_undecodable(kind):
    """Decoders skip such a page, and return less audio without an error."""
    parts = pages(encode(np.tile(SPEECH, 4), "OGG", kind.split()[1].upper()))
    assert len(parts) > 4
    middle = len(parts) // 2
    damaged = bytearray(parts[middle])
    damaged[100] ^= 1
    assert "damaged" in fault_of(b"".join([*parts[:middle], bytes(damaged), *parts[middle + 1 :]])).message
    assert "is missing" in fault_of(b"".join([*parts[:middle], *parts[middle + 1 :]])).message


def test_two_ogg_streams_in_one_file_are_decoded_both():
    """A chained file, as a radio recorder writes it, is longer than its first stream."""
    payload = ENCODED["ogg vorbis"] + with_serial(ENCODED["ogg vorbis"], 12345)
    assert abs(len(decode_audio(payload)) - 2 * len(SPEECH)) < 0.3 * SAMPLE_RATE


def with_checksum(page: bytearray) -> bytes:
    page[22:26] = bytes(4)
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 1 << 31 else crc << 1) & 0xFFFFFFFF
    struct.pack_into("<I", page, 22, crc)
    return bytes(page)


def with_serial(payload: bytes, serial: int) -> bytes:
    parts = [bytearray(page) for page in pages(payload)]
    for page in parts:
        struct.pack_into("<I", page, 14, serial)
    return b"".join(map(with_checksum, parts))


def with_sizes(payload: bytes, riff: int, data: int | None) -> bytes:
    """Replace the sizes of a WAV's file and of its samples."""
    changed = bytearray(payload)
    struct.pack_into("<I", changed, 4, riff)
    if data is not None:
        struct.pack_into("<I", changed, 40, data)
    return bytes(changed)


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("ipod", "aac")])
def test_a_fragmented_mp4_is_decoded_as_far_as_it_goes(container, codec):
    """A live recording declares no length: it is cut between two boxes without a trace, and within one with one."""
    payload = encode_with_ffmpeg(
        np.tile(SPEECH, 2),
        container,
        codec,
        options={"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"},
    )
    third = [match.start() - 4 for match in re.finditer(b"moof", payload)][3]
    assert len(decode_audio(payload)) > 1.9 * len(SPEECH)
    assert 0.5 * SAMPLE_RATE < len(decode_audio(payload[:third])) < 0.8 * len(SPEECH)
    assert "before the end of its mdat box" in fault_of(payload[: third - 20]).message


def test_a_live_webm_is_decoded_as_far_as_it_goes():
    """Its segment has no size and no duration."""
    payload = encode_with_ffmpeg(SPEECH, "webm", "libopus", RATE_48K, options={"live": "1"})
    assert abs(len(decode_audio(payload)) - len(SPEECH)) < 0.15 * SAMPLE_RATE
    assert 0.3 < len(decode_audio(payload[: len(payload) // 2])) / len(SPEECH) < 0.7

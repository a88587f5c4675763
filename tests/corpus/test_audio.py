"""Audio is decoded whole, at the sample rate of the models, or not at all."""

import re
import struct

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.corpus_samples import CLIPS, encode, encode_with_ffmpeg, read_speech
from validation.corpus.audio import Undecodable, decode_audio, slice_audio
from validation.domain import SAMPLE_RATE, Fault

SPEECH = read_speech()
RATE_48K = 48_000


def resample(speech: np.ndarray, rate: int) -> np.ndarray:
    return soxr.resample(speech, SAMPLE_RATE, rate)


ENCODED = {
    "flac": encode(SPEECH),
    "flac 48 kHz stereo": encode(np.stack([resample(SPEECH, RATE_48K)] * 2, axis=1), rate=RATE_48K),
    "wav": encode(SPEECH, "WAV"),
    "wav 8 kHz": encode(resample(SPEECH, 8000), "WAV", rate=8000),
    "ogg vorbis": encode(SPEECH, "OGG", "VORBIS"),
    "ogg opus": encode(SPEECH, "OGG", "OPUS"),
    "mp3": encode(SPEECH, "MP3"),
    "mp3 48 kHz": encode(resample(SPEECH, RATE_48K), "MP3", rate=RATE_48K),
    "m4a": encode_with_ffmpeg(SPEECH, "ipod", "aac"),
    "m4a 48 kHz": encode_with_ffmpeg(SPEECH, "ipod", "aac", RATE_48K),
    "aac": encode_with_ffmpeg(SPEECH, "adts", "aac"),
    "webm opus": encode_with_ffmpeg(SPEECH, "webm", "libopus", RATE_48K),
}
DECLARING_LENGTH = [kind for kind in ENCODED if kind != "aac"]


def fault_of(payload: bytes, **limits: float) -> Fault:
    with pytest.raises(Undecodable) as caught:
        decode_audio(payload, **limits)
    return caught.value.fault


def similarity(decoded: np.ndarray, spoken: np.ndarray) -> float:
    """Correlate two recordings at the shift, up to 0.2 s, that suits them best: encoders delay what they encode."""
    size = 1 << (len(decoded) + len(spoken)).bit_length()
    products = np.fft.irfft(np.fft.rfft(decoded, size) * np.fft.rfft(spoken, size).conj())
    shifts = np.r_[products[:3200], products[-3200:]]
    return float(shifts.max() / (np.linalg.norm(decoded) * np.linalg.norm(spoken)))


@pytest.mark.parametrize("kind", ENCODED)
def test_speech_survives_every_accepted_encoding(kind):
    """Same words, same length within the encoder's padding, mono float32 in [-1, 1] at 16 kHz."""
    decoded = decode_audio(ENCODED[kind])
    assert decoded.dtype == np.float32
    assert decoded.ndim == 1
    assert np.abs(decoded).max() <= 1
    assert abs(len(decoded) - len(SPEECH)) < 0.15 * SAMPLE_RATE
    assert similarity(decoded, SPEECH) > 0.95


def test_flac_and_wav_are_decoded_without_loss():
    """Without resampling, every sample is unchanged."""
    np.testing.assert_array_equal(decode_audio(ENCODED["flac"]), SPEECH)
    np.testing.assert_array_equal(decode_audio(ENCODED["wav"]), SPEECH)
    np.testing.assert_array_equal(decode_audio((CLIPS / "hi_ginti.flac").read_bytes()), read_speech("hi_ginti"))


@pytest.mark.parametrize(
    ("subtype", "step"),
    [
        ("PCM_U8", 2**-7),
        ("PCM_16", 2**-15),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),
        ("FLOAT", 2**-24),
        ("DOUBLE", 2**-24),
    ],
)
def test_every_wav_sample_format_has_the_same_scale(subtype, step):
    """Full scale is one, silence is zero, whether samples are bytes, integers or floats."""
    tone = (0.999 * np.sin(np.arange(SAMPLE_RATE) / 5)).astype(np.float32)
    np.testing.assert_allclose(decode_audio(encode(tone, "WAV", subtype)), tone, atol=step)


@pytest.mark.parametrize(("codec", "step"), [("pcm_u8", 2**-7), ("pcm_s16le", 2**-15), ("pcm_s32le", 2**-15)])
def test_ffmpeg_integer_formats_have_the_same_scale(codec, step):
    """Integer samples in a container that only FFmpeg reads come out as they went in."""
    tone = (0.999 * np.sin(np.arange(SAMPLE_RATE) / 5)).astype(np.float32)
    np.testing.assert_allclose(decode_audio(encode_with_ffmpeg(tone, "matroska", codec)), tone, atol=2 * step)


def test_channels_are_averaged():
    """Each channel of a stereo recording contributes one half."""
    left, right = SPEECH, np.zeros_like(SPEECH)
    np.testing.assert_allclose(decode_audio(encode(np.stack([left, right], axis=1))), SPEECH / 2, atol=2**-15)


def test_long_audio_is_resampled_without_seams():
    """A file of many blocks sounds like one that was resampled in one piece."""
    noise = np.random.default_rng(7).uniform(-0.5, 0.5, 60 * RATE_48K).astype(np.float32)
    whole = soxr.resample(noise, RATE_48K, SAMPLE_RATE, "HQ")
    np.testing.assert_allclose(decode_audio(encode(noise, "WAV", "FLOAT", RATE_48K)), whole, atol=1e-5)


def test_resampling_overshoot_is_clipped():
    """A square wave at full scale overshoots when it is resampled; the waveform stays within [-1, 1]."""
    square = np.sign(np.sin(np.arange(RATE_48K) / 30)).astype(np.float32)
    decoded = decode_audio(encode(square, "WAV", "FLOAT", RATE_48K))
    assert np.abs(decoded).max() == 1
    whole = np.clip(soxr.resample(square, RATE_48K, SAMPLE_RATE), -1, 1)
    np.testing.assert_allclose(decoded[100:-100], whole[100:-100], atol=1e-3)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", DECLARING_LENGTH)
def test_a_truncated_file_is_undecodable(kind, kept):
    """No prefix of a file is accepted as a shorter recording, and none is filled with silence."""
    payload = ENCODED[kind]
    assert fault_of(payload[: int(kept * len(payload))]).kind == "undecodable"


def test_audio_under_a_tenth_of_a_second_is_too_short():
    """An empty or shorter file is a fault; a file of exactly 0.1 s is not."""
    assert len(decode_audio(encode(SPEECH[:1600]))) == 1600
    for payload in (b"", encode(SPEECH[:0]), encode(SPEECH[:1599]), encode(SPEECH[:400], "MP3")):
        assert fault_of(payload).kind == "too_short"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, RATE_48K])
def test_nan_and_infinite_samples_are_a_fault(value, rate):
    """One NaN would spread to every score of the segment; infinity is not clipped to one."""
    spoiled = SPEECH.copy()
    spoiled[20_000] = value
    assert fault_of(encode(spoiled, "WAV", "FLOAT", rate)).kind == "not_finite"


def test_more_audio_than_the_limit_is_not_decoded():
    """A small file of endless silence costs no more memory than the limit."""
    silence = encode(np.zeros(120 * SAMPLE_RATE, np.float32))
    assert len(silence) < 100_000
    assert fault_of(silence, limit_s=60.0) == Fault("too_long", "the file holds more than 60 s")


@pytest.mark.parametrize(
    "payload", [b"\x00" * 4000, b"not audio at all " * 50, b"fLaC" + b"\xff" * 999, b"RIFF", b"OggS"]
)
def test_bytes_that_are_not_audio_are_undecodable(payload):
    """The fault has a message of one line."""
    fault = fault_of(payload)
    assert fault.kind == "undecodable"
    assert fault.message
    assert "\n" not in fault.message


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=150)
@given(st.sampled_from(sorted(ENCODED)), st.data())
def test_damage_gives_a_waveform_or_a_fault(kind, data):
    """Whatever bytes are changed, no exception of a decoder leaves the function, and samples stay in range."""
    payload = bytearray(ENCODED[kind])
    start = data.draw(st.one_of(st.integers(0, 200), st.integers(0, len(payload) - 1)))
    payload[start : start + 8] = data.draw(st.binary(min_size=1, max_size=8))
    try:
        decoded = decode_audio(bytes(payload))
    except Undecodable:
        return
    assert np.abs(decoded).max() <= 1


@pytest.mark.parametrize("rate", [1, 7, 999, 192_000, 2_000_000])
def test_an_absurd_sample_rate_stays_within_the_limit(rate):
    """A header with a wrong rate gives a fault or odd audio, within the limit either way."""
    payload = bytearray(ENCODED["wav"])
    struct.pack_into("<II", payload, 24, rate, 2 * rate)
    try:
        decoded = decode_audio(bytes(payload), limit_s=60.0)
    except Undecodable:
        return
    assert len(decoded) <= 60 * SAMPLE_RATE


def test_a_playlist_is_not_followed(monkeypatch):
    """A tar cannot make a box read its own files or listen on a port."""
    monkeypatch.chdir(CLIPS)
    for playlist in (
        b"ffconcat version 1.0\nfile hi_ginti.flac\n",
        b"v=0\r\nc=IN IP4 127.0.0.1\r\nm=audio 9 RTP/AVP 0\r\n",
    ):
        assert fault_of(playlist).kind == "undecodable"


# --- lengths: known, unknown, wrong -----------------------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("container", "codec", "rate"),
    [
        ("asf", "wmav2", SAMPLE_RATE),
        ("matroska", "pcm_s16le", SAMPLE_RATE),
        ("caf", "pcm_s16le", SAMPLE_RATE),
        ("au", "pcm_s16be", SAMPLE_RATE),
        ("mp4", "aac", SAMPLE_RATE),
    ],
)
def test_more_containers_are_decoded(container, codec, rate):
    """Windows Media, Matroska, Core Audio and Sun's format hold speech too."""
    payload = encode_with_ffmpeg(SPEECH, container, codec, rate)
    assert abs(len(decode_audio(payload)) - len(SPEECH)) < 0.2 * SAMPLE_RATE
    assert fault_of(payload[: len(payload) // 2]).kind == "undecodable"


# --- channels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [-1.0, -0.9])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_channels_of_opposite_phase_do_not_cancel(factor, kind):
    """A wrongly wired microphone gives the negative of one channel in the other: the louder one is taken."""
    stereo = np.stack([SPEECH, factor * SPEECH], axis=1)
    np.testing.assert_allclose(decode_audio(encode(stereo, kind)), SPEECH, atol=2**-14)


def test_opposite_phase_is_found_after_resampling_and_in_long_files():
    """The choice holds for the whole file, whatever its rate and however many blocks it has."""
    speech = np.tile(resample(SPEECH, RATE_48K), 5)
    heard = decode_audio(encode(np.stack([speech, -speech], axis=1), rate=RATE_48K))
    assert similarity(heard, np.tile(SPEECH, 5)) > 0.95


def test_unrelated_channels_are_still_averaged():
    """Two speakers, or one channel of silence, are no opposite phase."""
    other = np.roll(SPEECH, 5000)
    np.testing.assert_allclose(
        decode_audio(encode(np.stack([SPEECH, other], axis=1))), (SPEECH + other) / 2, atol=2**-14
    )
    assert not decode_audio(encode(np.zeros((16_000, 2), np.float32))).any()


def test_a_span_is_sliced_to_the_sample():
    """It is a copy, so that the long audio can be freed."""
    span = slice_audio(SPEECH, 1.0, 2.5)
    np.testing.assert_array_equal(span, SPEECH[16_000:40_000])
    assert span.base is None


@pytest.mark.parametrize(
    ("start_s", "end_s", "kind"),
    [(3.0, 4.0, "bad_times"), (2.0, 9.0, "bad_times"), (1.0, 1.05, "too_short"), (0.0, 2.9, "too_long")],
)
def test_a_span_outside_the_audio_is_a_fault(start_s, end_s, kind):
    """A span is never shortened to fit the audio."""
    with pytest.raises(Undecodable) as caught:
        slice_audio(SPEECH, start_s, end_s, limit_s=2.0)
    assert caught.value.fault.kind == kind


def test_a_span_may_end_a_quarter_second_past_the_audio():
    """Indexes round to the tenth of a second."""
    assert len(slice_audio(SPEECH, 2.0, 3.1)) == len(SPEECH) - 32_000

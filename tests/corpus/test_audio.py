"""Audio is decoded whole, at the sample rate of the models, or not at all."""

import struct

import numpy as np
import pytest
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.audio_samples import DECLARING_LENGTH, ENCODED, RATE_48K, SPEECH, fault_of, resample, similarity
from tests.support.corpus_samples import CLIPS, encode, encode_with_ffmpeg, read_speech
from validation.corpus.audio import AudioDecodeError, decode_audio, slice_audio
from validation.domain import SAMPLE_RATE, Fault


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
    except AudioDecodeError:
        return
    assert np.abs(decoded).max() <= 1


@pytest.mark.parametrize("rate", [1, 7, 999, 192_000, 2_000_000])
def test_an_absurd_sample_rate_stays_within_the_limit(rate):
    """A header with a wrong rate gives a fault or odd audio, within the limit either way."""
    payload = bytearray(ENCODED["wav"])
    struct.pack_into("<II", payload, 24, rate, 2 * rate)
    try:
        decoded = decode_audio(bytes(payload), limit_s=60.0)
    except AudioDecodeError:
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
    """The slice is a copy, so that the long audio can be freed."""
    span = slice_audio(SPEECH, 1.0, 2.5)
    np.testing.assert_array_equal(span, SPEECH[16_000:40_000])
    assert span.base is None


@pytest.mark.parametrize(
    ("start_s", "end_s", "kind"),
    [(3.0, 4.0, "bad_times"), (2.0, 9.0, "bad_times"), (1.0, 1.05, "too_short"), (0.0, 2.9, "too_long")],
)
def test_a_span_outside_the_audio_is_a_fault(start_s, end_s, kind):
    """A span is never shortened to fit the audio."""
    with pytest.raises(AudioDecodeError) as caught:
        slice_audio(SPEECH, start_s, end_s, limit_s=2.0)
    assert caught.value.fault.kind == kind


def test_a_span_may_end_a_quarter_second_past_the_audio():
    """Indexes round to the tenth of a second."""
    assert len(slice_audio(SPEECH, 2.0, 3.1)) == len(SPEECH) - 32_000

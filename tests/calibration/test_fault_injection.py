"""Variants of_kind trusted clips: each has exactly the fault that it names."""

from pathlib import Path

import numpy as np
import pytest

from validation.calibration.fault_injection import (
    FAULTS,
    HARMLESS,
    SOUND,
    find_missing_faults,
    inject_faults,
)
from validation.calibration.trusted_clips import load_trusted_clips
from validation.domain import SAMPLE_RATE
from validation.errors import BadInput
from validation.local.sample_corpus import CLIPS


@pytest.fixture(scope="module")
def clips():
    return {clip.name: clip for clip in load_trusted_clips(CLIPS)}


@pytest.fixture(scope="module")
def variants(clips):
    return {(faulty.original, faulty.variant): faulty for faulty in inject_faults(list(clips.values()))}


def of_kind(variants, variant):
    """The variants of_kind one kind, by clip."""
    return {clip: faulty for (clip, found), faulty in variants.items() if found == variant}


def test_every_clip_has_sound_variants_and_one_per_fault(clips, variants):
    """Every clip has every variant, except that a clip of two words can spare none and a short one has no room."""
    assert len(of_kind(variants, "as it is")) == len(clips) == 23
    counts = {variant: len(of_kind(variants, variant)) for changes in FAULTS.values() for variant in changes}
    spared = {"one missing word", "shift of 0.4 s", "shift of 1 s"}
    assert {variant: count for variant, count in counts.items() if variant not in spared} == dict.fromkeys(
        counts.keys() - spared, 23
    )
    assert all(10 < counts[variant] <= 23 for variant in spared)
    assert {faulty.fault for faulty in variants.values()} == {SOUND, *FAULTS}
    assert sum(faulty.fault == SOUND for faulty in variants.values()) == 23 * len(HARMLESS)


def test_clips_of_one_language_lack_faults_that_need_two(clips):
    """A wrong label and an overlapping voice need a clip of another language."""
    hindi = [clip for clip in clips.values() if clip.language == "hi"]
    assert set(find_missing_faults(inject_faults(hindi))) >= {"wrong language", "overlap"}


def test_same_clips_give_the_same_variants(clips, variants):
    """Results of different days are about the same faults."""
    again = inject_faults(list(clips.values())[:3])
    assert all(
        np.array_equal(s.audio, variants[s.original, s.variant].audio) for s in again if s.variant.startswith("noise")
    )


def test_a_fault_changes_either_audio_or_transcript(clips, variants):
    """A fault of the transcript leaves the audio, a fault of the audio leaves the transcript."""
    textual = {
        "swapped transcript", "half transcript", "repeated transcript", "one wrong word", "one missing word",
        "wrong language",
    }  # fmt: skip
    for faulty in variants.values():
        clip = clips[faulty.original]
        assert np.abs(faulty.audio).max() <= 1.0
        assert faulty.audio.dtype == np.float32
        if faulty.fault in textual:
            assert faulty.audio is clip.audio
            assert (faulty.text, faulty.language) != (clip.text, clip.language)
        else:
            assert (faulty.text, faulty.language) == (clip.text, clip.language)


def test_one_wrong_word_changes_one_word(clips, variants):
    """All other words stay in their places."""
    for name, faulty in of_kind(variants, "one wrong word").items():
        own, changed = clips[name].text.split(), faulty.text.split()
        if len(own) > 1:
            assert sum(a != b for a, b in zip(own, changed, strict=True)) == 1


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_has_its_signal_to_noise_ratio(clips, variants, snr_db):
    """Measured on the mixture, whose level may have been lowered as a whole."""
    for name, faulty in of_kind(variants, f"noise at {snr_db} dB").items():
        speech = clips[name].audio.astype(np.float64)
        gain = np.dot(faulty.audio, speech) / np.dot(speech, speech)
        noise = faulty.audio - gain * speech
        found_db = 10 * np.log10(np.mean((gain * speech) ** 2) / np.mean(noise**2))
        assert found_db == pytest.approx(snr_db, abs=0.3)


def test_audio_faults_are_measurable(clips, variants):
    """Clipping, silence, truncation and doubled speed can be measured in the samples."""
    for name, clip in clips.items():
        assert np.mean(np.abs(variants[name, "clipping"].audio) >= 0.99) >= 0.045
        assert not variants[name, "silence"].audio.any()
        assert len(variants[name, "last 40 % missing"].audio) < len(variants[name, "last 15 % missing"].audio)
        assert len(variants[name, "last 15 % missing"].audio) < len(clip.audio)
        assert len(variants[name, "doubled speed"].audio) == pytest.approx(len(clip.audio) / 2, abs=2)
        assert len(variants[name, "pauses around"].audio) - len(clip.audio) == pytest.approx(0.6 * SAMPLE_RATE, abs=2)


def test_a_swapped_transcript_is_as_long_as_the_own_one(clips, variants):
    """Its length alone betrays nothing, unless the language has too few words."""
    for name, faulty in of_kind(variants, "swapped transcript").items():
        assert faulty.text != clips[name].text
        assert len(faulty.text) <= 1.5 * len(clips[name].text) + 8


def test_faults_of_the_transcript_leave_the_words_in_their_order(clips, variants):
    """Half a transcript is its beginning; a missing word is one word; a loop repeats the last one."""
    for name, clip in clips.items():
        words = clip.text.split()
        if len(words) > 2:
            assert variants[name, "half transcript"].text.split() == words[: len(words) // 2]
            assert variants[name, "text twice"].text.split() == words * 2
            assert variants[name, "loop of 12 words"].text.split() == [*words, *words[-1:] * 12]
            assert len(variants[name, "one missing word"].text.split()) == len(words) - 1


def test_a_shift_drops_the_beginning_and_adds_other_speech(clips, variants):
    """The length of what is dropped is the length of what is added."""
    for name, faulty in of_kind(variants, "shift of 1 s").items():
        assert len(faulty.audio) <= len(clips[name].audio)
        assert faulty.text == clips[name].text


MANIFESTS = {
    "no manifest": (None, "has no manifest.json"),
    "no list": ("{}", "must hold a list"),
    "no JSON": ("[", "cannot be read"),
    "nothing": ("[]", "names no clip"),
    "no text": ('[{"file": "a.flac", "language": "hi"}]', "entry 1 needs file, text and language"),
    "no language": ('[{"file": "a.flac", "text": "x", "language": "gibberish"}]', "'gibberish' is not an ISO 639 code"),
    "no file": ('[{"file": "a.flac", "text": "x", "language": "hi"}]', "a.flac cannot be decoded"),
}


@pytest.mark.parametrize("what", MANIFESTS)
def test_invalid_manifest_of_trusted_clips_is_refused(tmp_path: Path, what):
    """The sentence names the entry and what it lacks."""
    manifest, says = MANIFESTS[what]
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(BadInput, match=says):
        load_trusted_clips(tmp_path)

"""Make variants of trusted clips: unchanged, harmlessly changed, or with one injected fault.

A fault is in the recording, in the transcript or in the language label. A variant without a fault is called sound.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias
from zlib import crc32

import numpy as np
import soxr

from validation.calibration.trusted_clips import Rng, TrustedClip
from validation.domain import SAMPLE_RATE, Seconds, Waveform

MAX_PEAK = 0.999
"""Maximum absolute sample value that ``_limit_peak`` leaves. It prevents unintended clipping."""
TELEPHONE_BAND_HZ = (300.0, 3400.0)
"""Lowest and highest frequency of a telephone line (ITU-T G.712)."""

# --- Harmless changes -----------------------------------------------------------------------------------------------


def leave_unchanged(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Return the clip itself."""
    return clip


def make_quieter(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Lower the level of the audio by 8 dB."""
    return replace(clip, audio=_limit_peak(clip.audio * 10 ** (-8 / 20)))


def add_pauses(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip:
    """Add 0.3 s of faint noise at both ends of the audio."""
    room = 1e-4 * rng.standard_normal((2, int(0.3 * SAMPLE_RATE)))
    return replace(clip, audio=_limit_peak(np.concatenate([room[0], clip.audio, room[1]])))


# --- Added sound ----------------------------------------------------------------------------------------------------


def add_noise(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip:
    """Add white noise at the signal-to-noise ratio ``snr_db``."""
    return replace(clip, audio=_mix(clip.audio, rng.standard_normal(len(clip.audio)), snr_db))


def add_music(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip:
    """Add synthetic chords of plucked strings, two per second, at the signal-to-noise ratio ``snr_db``."""
    return replace(clip, audio=_mix(clip.audio, _play_chords(len(clip.audio), rng), snr_db))


def overlap(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip | None:
    """Mix the whole clip with a clip of another language at the signal-to-noise ratio ``snr_db``.

    The other clip is cut or repeated to the same length. It is assumed to have another speaker.

    Returns:
        None if no clip has another language.
    """
    others = [other.audio for other in clips if other.language != clip.language]
    if not others:
        return None
    other = np.resize(others[rng.integers(len(others))], len(clip.audio))
    return replace(clip, audio=_mix(clip.audio, other, snr_db))


# --- Damaged or missing speech --------------------------------------------------------------------------------------


def overdrive(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng, *, scale: float) -> TrustedClip:
    """Amplify the audio until 5 % of its samples are clipped at 1, then multiply it by ``scale``."""
    clipped = np.clip(clip.audio / max(np.quantile(np.abs(clip.audio), 0.95), 1e-6), -1, 1)
    return replace(clip, audio=(clipped * scale).astype(np.float32))


def telephone(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Limit the audio to the band of a telephone line: resample to 8 kHz and back to 16 kHz, then filter."""
    narrow = soxr.resample(soxr.resample(clip.audio, SAMPLE_RATE, 8000), 8000, SAMPLE_RATE)
    spectrum = np.fft.rfft(narrow)
    hz = np.fft.rfftfreq(len(narrow), 1 / SAMPLE_RATE)
    low, high = TELEPHONE_BAND_HZ
    spectrum[(hz < low) | (hz > high)] = 0
    return replace(clip, audio=_limit_peak(np.fft.irfft(spectrum, len(narrow))))


def silence(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Replace the audio by digital silence of the same length."""
    return replace(clip, audio=np.zeros_like(clip.audio))


def truncate(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng, *, share: float) -> TrustedClip:
    """Cut off the last ``share`` of the speech, and the silence after it. The transcript stays complete."""
    first, last = _speech_span(clip.audio)
    return replace(clip, audio=clip.audio[: last - int(share * (last - first))])


def shift(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng, *, seconds: Seconds) -> TrustedClip | None:
    """Shift the segment: cut off its first ``seconds`` of speech, and append the first ``seconds`` of other speech.

    The silence before the speech is cut off too. The other speech is of another clip of the same language.

    Returns:
        None if no clip of the language has another transcript, or if the speech is shorter than twice ``seconds``.
    """
    others = [other.audio for other in clips if other.language == clip.language and other.text != clip.text]
    first, last = _speech_span(clip.audio)
    moved = int(seconds * SAMPLE_RATE)
    if not others or last - first < 2 * moved:
        return None
    following = others[rng.integers(len(others))]
    begins, _ = _speech_span(following)
    return replace(
        clip, audio=_limit_peak(np.concatenate([clip.audio[first + moved :], following[begins : begins + moved]]))
    )


def double_speed(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Double the speed of the audio, which raises its pitch by an octave."""
    return replace(clip, audio=_limit_peak(soxr.resample(clip.audio, 2 * SAMPLE_RATE, SAMPLE_RATE)))


def _play_chords(samples: int, rng: Rng) -> np.ndarray:
    """Synthesise ``samples`` samples of decaying major chords, two per second, on random roots."""
    step = SAMPLE_RATE // 2
    time_s = np.arange(step) / SAMPLE_RATE
    chords = []
    for _ in range(-(-samples // step)):
        root = 110.0 * 2 ** (rng.integers(12) / 12)
        tones = [root * ratio * harmonic for ratio in (1, 5 / 4, 3 / 2, 2) for harmonic in range(1, 6)]
        weights = [1 / harmonic for _ in range(4) for harmonic in range(1, 6)]
        waves = (w * np.sin(2 * np.pi * hz * time_s) for w, hz in zip(weights, tones, strict=True))
        chords.append(sum(waves) * np.exp(-3 * time_s))
    return np.concatenate(chords)[:samples]


def _speech_span(audio: Waveform) -> tuple[int, int]:
    """Return the index of the first sample within 40 dB of the peak, and the index after the last such sample.

    Digital silence counts as speech throughout.
    """
    loud = np.flatnonzero(np.abs(audio) > 0.01 * np.abs(audio).max())
    return (int(loud[0]), int(loud[-1]) + 1) if len(loud) else (0, len(audio))


def _mix(speech: Waveform, other: np.ndarray, snr_db: float) -> Waveform:
    """Add ``other`` to the speech, scaled so that its power is ``snr_db`` below that of the speech."""
    power = max(float(np.mean(other**2)), 1e-12)
    return _limit_peak(speech + other * float(np.sqrt(np.mean(speech**2) / 10 ** (snr_db / 10) / power)))


def _limit_peak(audio: np.ndarray) -> Waveform:
    """Scale the audio down so that no sample exceeds ``MAX_PEAK``. Only ``overdrive`` injects clipping."""
    fitted: Waveform = (audio * min(1.0, MAX_PEAK / max(float(np.abs(audio).max()), 1e-9))).astype(np.float32)
    return fitted


LOOPED_WORDS = 12
"""Number of repetitions that ``append_loop`` adds. Recognisers write such loops by mistake."""


def swap_transcript(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """Replace the transcript by words of other clips of the same language, with about the same number of characters.

    Returns:
        None if no other clip of the language has another transcript.
    """
    others = _other_texts(clip, clips)
    if not others:
        return None
    units = [unit for place in rng.permutation(len(others)) for unit in cut_words(others[place])]
    joint = _joint(clip.text)
    text = ""
    for unit in units:
        longer = text + (joint if text else "") + unit
        if text and abs(len(longer) - len(clip.text)) > abs(len(text) - len(clip.text)):
            break
        text = longer
    return replace(clip, text=text)


def swap_word(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """Replace one word by a word of another clip of the same language. ``cut_words`` defines what a word is.

    Returns:
        None if no other clip of the language has another transcript, if the transcript has one word, or if the drawn
        clip has no word that differs from the replaced one.
    """
    others = _other_texts(clip, clips)
    if not others:
        return None
    own, foreign = cut_words(clip.text), cut_words(others[rng.integers(len(others))])
    place = int(rng.integers(len(own)))
    candidates = [word for word in foreign if word.casefold() != own[place].casefold()]
    if len(own) < 2 or not candidates:  # noqa: PLR2004 - a single word is the whole transcript
        return None
    own[place] = candidates[rng.integers(len(candidates))]
    return replace(clip, text=_joint(clip.text).join(own))


def drop_word(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """Remove one word, as ``cut_words`` defines it. Return None for fewer than three words."""
    own = cut_words(clip.text)
    if len(own) < 3:  # noqa: PLR2004 - one of two words is the fault "half transcript"
        return None
    del own[int(rng.integers(len(own)))]
    return replace(clip, text=_joint(clip.text).join(own))


def drop_second_half(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip | None:
    """Remove the second half of the words. Return None for fewer than two words."""
    own = cut_words(clip.text)
    return replace(clip, text=_joint(clip.text).join(own[: len(own) // 2])) if len(own) > 1 else None


def repeat_text(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Write the whole transcript twice."""
    return replace(clip, text=_joint(clip.text).join([clip.text, clip.text]))


def append_loop(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Repeat the last word ``LOOPED_WORDS`` times."""
    own = cut_words(clip.text)
    return replace(clip, text=_joint(clip.text).join([*own, *own[-1:] * LOOPED_WORDS]))


def mislabel(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """Replace the language label by that of a clip in another language. Return None if no clip has another language."""
    others = sorted({other.language for other in clips} - {clip.language})
    return replace(clip, language=others[rng.integers(len(others))]) if others else None


def cut_words(text: str) -> list[str]:
    """Split a transcript into words, or into pairs of characters without the last full stop if it has no spaces."""
    words = text.split()
    if len(words) > 1:
        return words
    letters = text.strip().rstrip("。.")
    return [letters[start : start + 2] for start in range(0, len(letters), 2)]


def _joint(text: str) -> str:
    """Return the text between two words: a space, or an empty text if the transcript has no spaces."""
    return " " if " " in text.strip() else ""


def _other_texts(clip: TrustedClip, clips: Sequence[TrustedClip]) -> list[str]:
    """Return the transcripts of the clips in the clip's language, without those that equal its own."""
    return [other.text for other in clips if other.language == clip.language and other.text != clip.text]


SOUND = "sound"
"""The value of ``ClipVariant.fault`` for a variant without a fault."""


@dataclass(frozen=True, slots=True)
class ClipVariant:
    """A variant of a trusted clip: sound, or with one injected fault."""

    original: str
    """The name of the trusted clip. Variants of one clip are not statistically independent."""
    fault: str
    """``SOUND``, or the name of the injected fault, a key of ``FAULTS``."""
    variant: str
    """The name of the change, a key of ``HARMLESS`` or of one of the mappings in ``FAULTS``."""
    audio: Waveform
    text: str
    language: str
    """The declared language."""
    spoken_language: str
    is_synthetic: bool = False


Transform: TypeAlias = Callable[[TrustedClip, Sequence[TrustedClip], Rng], TrustedClip | None]
"""Takes a clip, all clips and a random generator. Returns the changed clip, or None if these clips do not allow it."""

HARMLESS: Mapping[str, Transform] = {
    "as it is": leave_unchanged,
    "8 dB quieter": make_quieter,
    "pauses around": add_pauses,
    "noise 35 dB below": partial(add_noise, snr_db=35.0),
}
"""The changes after which a clip is still sound, by the name of the variant."""
FAULTS: Mapping[str, Mapping[str, Transform]] = {
    "swapped transcript": {"swapped transcript": swap_transcript},
    "half transcript": {"half transcript": drop_second_half},
    "repeated transcript": {"text twice": repeat_text, "loop of 12 words": append_loop},
    "one wrong word": {"one wrong word": swap_word},
    "one missing word": {"one missing word": drop_word},
    "wrong language": {"wrong language": mislabel},
    "noise at 20 dB": {"noise at 20 dB": partial(add_noise, snr_db=20.0)},
    "noise at 10 dB": {"noise at 10 dB": partial(add_noise, snr_db=10.0)},
    "noise at 0 dB": {"noise at 0 dB": partial(add_noise, snr_db=0.0)},
    "music": {"music at 10 dB": partial(add_music, snr_db=10.0)},
    "second speaker": {"speaker at 10 dB": partial(overlap, snr_db=10.0)},
    "overlap": {"overlap": partial(overlap, snr_db=0.0)},
    "clipping": {"clipping": partial(overdrive, scale=1.0)},
    "flat clipping": {"flat clipping": partial(overdrive, scale=0.5)},
    "telephone band": {"telephone band": telephone},
    "silence": {"silence": silence},
    "truncation": {
        "last 15 % missing": partial(truncate, share=0.15),
        "last 40 % missing": partial(truncate, share=0.4),
    },
    "shift of 0.4 s": {"shift of 0.4 s": partial(shift, seconds=0.4)},
    "shift of 1 s": {"shift of 1 s": partial(shift, seconds=1.0)},
    "doubled speed": {"doubled speed": double_speed},
}
"""For each fault, the transforms that inject it, by the name of the variant. One fault may have several strengths."""


def inject_faults(clips: Sequence[TrustedClip], faults: Collection[str] = tuple(FAULTS)) -> list[ClipVariant]:
    """Make the sound variants of every clip, and the variants with one of ``faults``. The result is deterministic."""
    return [faulty for clip in clips for faulty in _make_variants(clip, clips, faults)]


def find_missing_faults(variants: Sequence[ClipVariant]) -> list[str]:
    """List the faults that no variant has, because the clips do not allow them.

    For example, the fault ``wrong language`` needs clips of two languages.
    """
    injected = {faulty.fault for faulty in variants}
    return [fault for fault in FAULTS if fault not in injected]


def _make_variants(clip: TrustedClip, clips: Sequence[TrustedClip], faults: Collection[str]) -> Iterator[ClipVariant]:
    """Yield the sound variants of one clip, and its variants with one of ``faults``."""
    for fault, changes in ((SOUND, HARMLESS), *((fault, FAULTS[fault]) for fault in faults)):
        for variant, change in changes.items():
            rng = np.random.default_rng(crc32(f"{clip.name}/{variant}".encode()))
            if (new := change(clip, clips, rng)) is not None:
                yield ClipVariant(
                    clip.name, fault, variant, new.audio, new.text, new.language, clip.language, clip.is_synthetic
                )

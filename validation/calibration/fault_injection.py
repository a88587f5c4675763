"""Variants of trusted clips: as they are, harmlessly changed, and with one injected fault each."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias
from zlib import crc32

import numpy as np
import soxr

from validation.calibration.trusted_clips import TrustedClip
from validation.domain import SAMPLE_RATE, Waveform
from validation.errors import BadInput

SOUND = "sound"
"""The ``fault`` of a variant without one."""
MAX_PEAK = 0.999
"""Highest absolute sample of a changed clip, so that a change does not clip it by accident."""


@dataclass(frozen=True, slots=True)
class FaultyClip:
    """A variant of a clip, and what is known to be wrong with it."""

    original: str
    """The name of the trusted clip. Variants of one clip are not independent evidence."""
    fault: str
    """``sound``, or the name of the injected fault."""
    variant: str
    audio: Waveform
    text: str
    language: str


Rng: TypeAlias = np.random.Generator
Transform: TypeAlias = Callable[[TrustedClip, Sequence[TrustedClip], Rng], TrustedClip | None]
"""(clip, all clips, random numbers) -> the changed clip, or None if these clips do not allow it."""


def inject_faults(clips: Sequence[TrustedClip]) -> list[FaultyClip]:
    """Make every variant of every clip. The same clips give the same variants."""
    return [faulty for clip in clips for faulty in _transform(clip, clips)]


def find_missing_faults(variants: Sequence[FaultyClip]) -> list[str]:
    """The faults that no variant has: a wrong language, for example, needs clips of two languages."""
    injected = {faulty.fault for faulty in variants}
    return [fault for fault in FAULTS if fault not in injected]


def inject_shares(variants: Sequence[FaultyClip], shares: Mapping[str, float]) -> list[FaultyClip]:
    """Leave out variants, chosen by their names, until each of these faults has its share of the rest.

    Args:
        variants: from ``inject_faults``.
        shares: fault -> share of the variants that are left. Faults that are not named lose none.

    Raises:
        BadInput: no variant has such a fault, or too few have it for that share.
    """
    rest = [faulty for faulty in variants if faulty.fault not in shares]
    total = len(rest) / (1 - sum(shares.values())) if sum(shares.values()) < 1 else float("inf")
    left = list(rest)
    for fault, share in shares.items():
        having = [faulty for faulty in variants if faulty.fault == fault]
        if not having or not 0 <= share * total <= len(having):
            largest = len(having) / (len(rest) + len(having))
            raise BadInput(
                f"fault {fault!r} cannot be {share} of the variants: {len(having)} have it, at most {largest:.3f}"
            )
        having.sort(key=lambda faulty: crc32(f"{faulty.original}/{faulty.variant}".encode()))
        left += having[: round(share * total)]
    kept = set(map(id, left))
    return [faulty for faulty in variants if id(faulty) in kept]


def _transform(clip: TrustedClip, clips: Sequence[TrustedClip]) -> Iterator[FaultyClip]:
    for fault, changes in ((SOUND, HARMLESS), *((name, {name: change}) for name, change in FAULTS.items())):
        for variant, change in changes.items():
            rng = np.random.default_rng(crc32(f"{clip.name}/{variant}".encode()))
            if (changed := change(clip, clips, rng)) is not None:
                yield FaultyClip(clip.name, fault, variant, changed.audio, changed.text, changed.language)


# --- Harmless changes -----------------------------------------------------------------------------------------------


def keep(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    return clip


def lower(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Eight decibels quieter."""
    return replace(clip, audio=_fit(clip.audio * 10 ** (-8 / 20)))


def pause(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip:
    """0.3 s of faint noise at both ends."""
    room = 1e-4 * rng.standard_normal((2, int(0.3 * SAMPLE_RATE)))
    return replace(clip, audio=_fit(np.concatenate([room[0], clip.audio, room[1]])))


# --- Faults of the transcript or the label -----------------------------------------------------------------


def swap_transcript(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """The transcript of another clip of the same language."""
    others = [other.text for other in clips if other.language == clip.language and other.text != clip.text]
    return replace(clip, text=others[rng.integers(len(others))]) if others else None


def swap_word(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """One word replaced by one of another clip of the same language; two characters in scripts without spaces."""
    others = [other.text for other in clips if other.language == clip.language and other.text != clip.text]
    if not others:
        return None
    own, foreign = _cut_words(clip.text), _cut_words(others[rng.integers(len(others))])
    place = int(rng.integers(len(own)))
    candidates = [word for word in foreign if word.casefold() != own[place].casefold()]
    if len(own) < 2 or not candidates:  # noqa: PLR2004 - the only word would be the whole transcript
        return None
    own[place] = candidates[rng.integers(len(candidates))]
    return replace(clip, text=(" " if " " in clip.text.strip() else "").join(own))


def mislabel(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """The label of another language of the clips."""
    others = sorted({other.language for other in clips} - {clip.language})
    return replace(clip, language=others[rng.integers(len(others))]) if others else None


# --- Faults of the audio -----------------------------------------------------------------------------------


def add_noise(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng, *, snr_db: float) -> TrustedClip:
    """White noise at a signal-to-noise ratio."""
    noise = rng.standard_normal(len(clip.audio))
    return replace(clip, audio=_fit(clip.audio + noise * _gain(clip.audio, noise, snr_db)))


def overlap(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """Another clip at the same level over all of it; of another language, so that the speaker is another one."""
    others = [other.audio for other in clips if other.language != clip.language]
    if not others:
        return None
    other = np.resize(others[rng.integers(len(others))], len(clip.audio))
    return replace(clip, audio=_fit(clip.audio + other * _gain(clip.audio, other, 0.0)))


def overdrive(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Amplified until one sample in twenty is clipped at full scale."""
    return replace(clip, audio=np.clip(clip.audio / max(np.quantile(np.abs(clip.audio), 0.95), 1e-6), -1, 1))


def silence(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    return replace(clip, audio=np.zeros_like(clip.audio))


def truncate(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """The last two fifths are missing; the transcript has them."""
    return replace(clip, audio=clip.audio[: int(0.6 * len(clip.audio))])


def double_speed(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """Played twice as fast, an octave higher."""
    return replace(clip, audio=_fit(soxr.resample(clip.audio, 2 * SAMPLE_RATE, SAMPLE_RATE)))


HARMLESS: Mapping[str, Transform] = {
    "as it is": keep,
    "8 dB quieter": lower,
    "pauses around": pause,
    "noise 35 dB below": partial(add_noise, snr_db=35.0),
}
FAULTS: Mapping[str, Transform] = {
    "swapped transcript": swap_transcript,
    "one wrong word": swap_word,
    "wrong language": mislabel,
    "noise at 20 dB": partial(add_noise, snr_db=20.0),
    "noise at 10 dB": partial(add_noise, snr_db=10.0),
    "noise at 5 dB": partial(add_noise, snr_db=5.0),
    "noise at 0 dB": partial(add_noise, snr_db=0.0),
    "clipping": overdrive,
    "silence": silence,
    "truncation": truncate,
    "doubled speed": double_speed,
    "overlap": overlap,
}


def _cut_words(text: str) -> list[str]:
    words = text.split()
    if len(words) > 1:
        return words
    letters = text.strip().rstrip("。.")
    return [letters[start : start + 2] for start in range(0, len(letters), 2)]


def _gain(speech: Waveform, other: np.ndarray, snr_db: float) -> float:
    power = max(float(np.mean(other**2)), 1e-12)
    return float(np.sqrt(np.mean(speech**2) / 10 ** (snr_db / 10) / power))


def _fit(audio: np.ndarray) -> Waveform:
    """Lower the level if a sample would exceed ``MAX_PEAK``, because clipping is another fault."""
    fitted: Waveform = (audio * min(1.0, MAX_PEAK / max(float(np.abs(audio).max()), 1e-9))).astype(np.float32)
    return fitted

"""Specimens: trusted clips as they are, changed in ways that are no fault, and with one fault each."""

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
"""The name of no fault."""
PEAK = 0.999


@dataclass(frozen=True, slots=True)
class FaultyClip:
    """A clip as models hear it, and what is known to be wrong with it."""

    clip: str
    """What it was made of. Specimens of one clip are no independent evidence."""
    fault: str
    """``sound``, or the one thing that is wrong."""
    variant: str
    audio: Waveform
    text: str
    language: str


Draw: TypeAlias = np.random.Generator
Change: TypeAlias = Callable[[TrustedClip, Sequence[TrustedClip], Draw], TrustedClip | None]
"""Changes a clip, given all of them; None where it cannot, such as for want of a second speaker."""


def inject_faults(clips: Sequence[TrustedClip]) -> list[FaultyClip]:
    """Make every specimen of every clip. The same clips give the same specimens."""
    return [specimen for clip in clips for specimen in _make_of(clip, clips)]


def find_unplantable(specimens: Sequence[FaultyClip]) -> list[str]:
    """The faults that no specimen has, such as a wrong language and a second voice where all clips are of one."""
    planted = {specimen.fault for specimen in specimens}
    return [fault for fault in FAULTS if fault not in planted]


def inject_shares(specimens: Sequence[FaultyClip], shares: Mapping[str, float]) -> list[FaultyClip]:
    """Leave out specimens, drawn by their names, until each of these faults has its share of what is left.

    Args:
        specimens: from ``inject_faults``.
        shares: by fault, each of all specimens that are left; what is not named stays whole.

    Raises:
        BadInput: there is no such fault among the specimens, or too few of it for its share.
    """
    rest = [specimen for specimen in specimens if specimen.fault not in shares]
    total = len(rest) / (1 - sum(shares.values())) if sum(shares.values()) < 1 else float("inf")
    left = list(rest)
    for fault, share in shares.items():
        planted = [specimen for specimen in specimens if specimen.fault == fault]
        if not planted or not 0 <= share * total <= len(planted):
            most = len(planted) / (len(rest) + len(planted))
            raise BadInput(
                f"{fault!r} cannot be {share} of the specimens: {len(planted)} have it, {most:.3f} by itself"
            )
        planted.sort(key=lambda specimen: crc32(f"{specimen.clip}/{specimen.variant}".encode()))
        left += planted[: round(share * total)]
    kept = set(map(id, left))
    return [specimen for specimen in specimens if id(specimen) in kept]


def _make_of(clip: TrustedClip, clips: Sequence[TrustedClip]) -> Iterator[FaultyClip]:
    for fault, changes in ((SOUND, HARMLESS), *((name, {name: change}) for name, change in FAULTS.items())):
        for variant, change in changes.items():
            draw = np.random.default_rng(crc32(f"{clip.name}/{variant}".encode()))
            if (changed := change(clip, clips, draw)) is not None:
                yield FaultyClip(clip.name, fault, variant, changed.audio, changed.text, changed.language)


# --- What is no fault -----------------------------------------------------------------------------------------------


def keep(clip: TrustedClip, _clips: Sequence[TrustedClip], _draw: Draw) -> TrustedClip:
    return clip


def lower(clip: TrustedClip, _clips: Sequence[TrustedClip], _draw: Draw) -> TrustedClip:
    """Eight decibels quieter."""
    return replace(clip, audio=_fit(clip.audio * 10 ** (-8 / 20)))


def pause(clip: TrustedClip, _clips: Sequence[TrustedClip], draw: Draw) -> TrustedClip:
    """Three tenths of a second of room at both ends."""
    room = 1e-4 * draw.standard_normal((2, int(0.3 * SAMPLE_RATE)))
    return replace(clip, audio=_fit(np.concatenate([room[0], clip.audio, room[1]])))


# --- What is wrong with the transcript or the label -----------------------------------------------------------------


def swap_transcript(clip: TrustedClip, clips: Sequence[TrustedClip], draw: Draw) -> TrustedClip | None:
    """The transcript of another clip of the same language."""
    others = [other.text for other in clips if other.language == clip.language and other.text != clip.text]
    return replace(clip, text=others[draw.integers(len(others))]) if others else None


def swap_word(clip: TrustedClip, clips: Sequence[TrustedClip], draw: Draw) -> TrustedClip | None:
    """One word replaced by one of another clip of the same language; two signs where words are not parted."""
    others = [other.text for other in clips if other.language == clip.language and other.text != clip.text]
    if not others:
        return None
    own, foreign = _cut_words(clip.text), _cut_words(others[draw.integers(len(others))])
    place = int(draw.integers(len(own)))
    candidates = [word for word in foreign if word.casefold() != own[place].casefold()]
    if len(own) < 2 or not candidates:  # noqa: PLR2004 - the only word would be the whole transcript
        return None
    own[place] = candidates[draw.integers(len(candidates))]
    return replace(clip, text=(" " if " " in clip.text.strip() else "").join(own))


def mislabel(clip: TrustedClip, clips: Sequence[TrustedClip], draw: Draw) -> TrustedClip | None:
    """The label of another language of the set."""
    others = sorted({other.language for other in clips} - {clip.language})
    return replace(clip, language=others[draw.integers(len(others))]) if others else None


# --- What is wrong with the audio -----------------------------------------------------------------------------------


def add_noise(clip: TrustedClip, _clips: Sequence[TrustedClip], draw: Draw, *, snr_db: float) -> TrustedClip:
    """White noise under, in or over the speech."""
    noise = draw.standard_normal(len(clip.audio))
    return replace(clip, audio=_fit(clip.audio + noise * _gain(clip.audio, noise, snr_db)))


def overlap(clip: TrustedClip, clips: Sequence[TrustedClip], draw: Draw) -> TrustedClip | None:
    """Another clip as loud as this one, over all of it: of another language, so that it is another speaker."""
    others = [other.audio for other in clips if other.language != clip.language]
    if not others:
        return None
    other = np.resize(others[draw.integers(len(others))], len(clip.audio))
    return replace(clip, audio=_fit(clip.audio + other * _gain(clip.audio, other, 0.0)))


def overdrive(clip: TrustedClip, _clips: Sequence[TrustedClip], _draw: Draw) -> TrustedClip:
    """So loud that one sample in twenty is cut off at full scale."""
    return replace(clip, audio=np.clip(clip.audio / max(np.quantile(np.abs(clip.audio), 0.95), 1e-6), -1, 1))


def silence(clip: TrustedClip, _clips: Sequence[TrustedClip], _draw: Draw) -> TrustedClip:
    return replace(clip, audio=np.zeros_like(clip.audio))


def truncate(clip: TrustedClip, _clips: Sequence[TrustedClip], _draw: Draw) -> TrustedClip:
    """The last two fifths are missing; the transcript has them."""
    return replace(clip, audio=clip.audio[: int(0.6 * len(clip.audio))])


def double_speed(clip: TrustedClip, _clips: Sequence[TrustedClip], _draw: Draw) -> TrustedClip:
    """Played twice as fast, an octave higher."""
    return replace(clip, audio=_fit(soxr.resample(clip.audio, 2 * SAMPLE_RATE, SAMPLE_RATE)))


HARMLESS: Mapping[str, Change] = {
    "as it is": keep,
    "8 dB quieter": lower,
    "pauses around": pause,
    "noise 35 dB below": partial(add_noise, snr_db=35.0),
}
FAULTS: Mapping[str, Change] = {
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
    """As loud as it is, unless it would clip: that is another fault."""
    fitted: Waveform = (audio * min(1.0, PEAK / max(float(np.abs(audio).max()), 1e-9))).astype(np.float32)
    return fitted

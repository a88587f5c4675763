"""Variants of trusted clips: as they are, harmlessly changed, and with one injected fault each."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias
from zlib import crc32

import numpy as np

from validation.calibration import audio_faults as audio
from validation.calibration import text_faults as text
from validation.calibration.trusted_clips import Rng, TrustedClip
from validation.domain import Waveform

SOUND = "sound"
"""The ``fault`` of a variant without one."""


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
    """The declared language."""
    spoken_language: str
    is_synthetic: bool = False


Transform: TypeAlias = Callable[[TrustedClip, Sequence[TrustedClip], Rng], TrustedClip | None]
"""(clip, all clips, random numbers) -> the changed clip, or None if these clips do not allow it."""

HARMLESS: Mapping[str, Transform] = {
    "as it is": audio.keep,
    "8 dB quieter": audio.lower,
    "pauses around": audio.pause,
    "noise 35 dB below": partial(audio.add_noise, snr_db=35.0),
}
FAULTS: Mapping[str, Mapping[str, Transform]] = {
    "swapped transcript": {"swapped transcript": text.swap_transcript},
    "half transcript": {"half transcript": text.drop_second_half},
    "repeated transcript": {"text twice": text.repeat_text, "loop of 12 words": text.append_loop},
    "one wrong word": {"one wrong word": text.swap_word},
    "one missing word": {"one missing word": text.drop_word},
    "wrong language": {"wrong language": text.mislabel},
    "noise at 20 dB": {"noise at 20 dB": partial(audio.add_noise, snr_db=20.0)},
    "noise at 10 dB": {"noise at 10 dB": partial(audio.add_noise, snr_db=10.0)},
    "noise at 0 dB": {"noise at 0 dB": partial(audio.add_noise, snr_db=0.0)},
    "music": {"music at 10 dB": partial(audio.add_music, snr_db=10.0)},
    "second speaker": {"speaker at 10 dB": partial(audio.overlap, snr_db=10.0)},
    "overlap": {"overlap": partial(audio.overlap, snr_db=0.0)},
    "clipping": {"clipping": partial(audio.overdrive, scale=1.0)},
    "flat clipping": {"flat clipping": partial(audio.overdrive, scale=0.5)},
    "telephone band": {"telephone band": audio.telephone},
    "silence": {"silence": audio.silence},
    "truncation": {
        "last 15 % missing": partial(audio.truncate, share=0.15),
        "last 40 % missing": partial(audio.truncate, share=0.4),
    },
    "shift of 0.4 s": {"shift of 0.4 s": partial(audio.shift, seconds=0.4)},
    "shift of 1 s": {"shift of 1 s": partial(audio.shift, seconds=1.0)},
    "doubled speed": {"doubled speed": audio.double_speed},
}
"""Fault -> its variants."""


def inject_faults(clips: Sequence[TrustedClip], faults: Collection[str] = tuple(FAULTS)) -> list[FaultyClip]:
    """Make every variant of every clip, harmless or with one of ``faults``. The same clips give the same variants."""
    return [faulty for clip in clips for faulty in _transform(clip, clips, faults)]


def find_missing_faults(variants: Sequence[FaultyClip]) -> list[str]:
    """The faults that no variant has: a wrong language, for example, needs clips of two languages."""
    injected = {faulty.fault for faulty in variants}
    return [fault for fault in FAULTS if fault not in injected]


def _transform(clip: TrustedClip, clips: Sequence[TrustedClip], faults: Collection[str]) -> Iterator[FaultyClip]:
    for fault, changes in ((SOUND, HARMLESS), *((fault, FAULTS[fault]) for fault in faults)):
        for variant, change in changes.items():
            rng = np.random.default_rng(crc32(f"{clip.name}/{variant}".encode()))
            if (new := change(clip, clips, rng)) is not None:
                yield FaultyClip(
                    clip.name, fault, variant, new.audio, new.text, new.language, clip.language, clip.is_synthetic
                )

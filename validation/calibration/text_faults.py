"""Faults of a transcript or of a language label."""

from collections.abc import Sequence
from dataclasses import replace

from validation.calibration.trusted_clips import Rng, TrustedClip

LOOPED_WORDS = 12
"""Words of a loop, as a recogniser writes one when it repeats itself."""


def swap_transcript(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """Words of other clips of the same language, as many characters as the clip's own transcript has."""
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
    """One word replaced by one of another clip of the same language; two characters in scripts without spaces."""
    others = _other_texts(clip, clips)
    if not others:
        return None
    own, foreign = cut_words(clip.text), cut_words(others[rng.integers(len(others))])
    place = int(rng.integers(len(own)))
    candidates = [word for word in foreign if word.casefold() != own[place].casefold()]
    if len(own) < 2 or not candidates:  # noqa: PLR2004 - the only word would be the whole transcript
        return None
    own[place] = candidates[rng.integers(len(candidates))]
    return replace(clip, text=_joint(clip.text).join(own))


def drop_word(clip: TrustedClip, _clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """One word left out; two characters in scripts without spaces."""
    own = cut_words(clip.text)
    if len(own) < 3:  # noqa: PLR2004 - half of the transcript is another fault
        return None
    del own[int(rng.integers(len(own)))]
    return replace(clip, text=_joint(clip.text).join(own))


def drop_second_half(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip | None:
    """The second half of the words left out."""
    own = cut_words(clip.text)
    return replace(clip, text=_joint(clip.text).join(own[: len(own) // 2])) if len(own) > 1 else None


def repeat_text(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """The whole transcript twice."""
    return replace(clip, text=_joint(clip.text).join([clip.text, clip.text]))


def append_loop(clip: TrustedClip, _clips: Sequence[TrustedClip], _rng: Rng) -> TrustedClip:
    """The last word ``LOOPED_WORDS`` times more."""
    own = cut_words(clip.text)
    return replace(clip, text=_joint(clip.text).join([*own, *own[-1:] * LOOPED_WORDS]))


def mislabel(clip: TrustedClip, clips: Sequence[TrustedClip], rng: Rng) -> TrustedClip | None:
    """The label of another language of the clips."""
    others = sorted({other.language for other in clips} - {clip.language})
    return replace(clip, language=others[rng.integers(len(others))]) if others else None


def cut_words(text: str) -> list[str]:
    """Cut a transcript into words, or into pairs of characters where it has no spaces."""
    words = text.split()
    if len(words) > 1:
        return words
    letters = text.strip().rstrip("。.")
    return [letters[start : start + 2] for start in range(0, len(letters), 2)]


def _joint(text: str) -> str:
    return " " if " " in text.strip() else ""


def _other_texts(clip: TrustedClip, clips: Sequence[TrustedClip]) -> list[str]:
    return [other.text for other in clips if other.language == clip.language and other.text != clip.text]

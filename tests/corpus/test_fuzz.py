"""Whatever is damaged in a file, its reader answers with an error of its own, and no audio is lost in silence."""

import random

import pytest

from tests.support.fuzz_audio import DECLARING, SPEECH, UNDECLARED, mutate_audio
from validation.corpus.audio import Undecodable, decode_audio

MIN_SHARE = 0.9


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_audio_is_refused_or_whole(count):
    """A file whose container declares its length never decodes to nine tenths of it or less, and no error but
    ``Undecodable`` leaves the decoder."""
    files = {kind: encode() for kind, encode in {**DECLARING, **UNDECLARED}.items()}
    passed = []
    for place in range(count):
        kind = list(files)[place % len(files)]
        damaged = mutate_audio(files[kind], random.Random(f"{count}/{place}"))
        try:
            share = len(decode_audio(damaged)) / len(SPEECH)
        except Undecodable:
            continue
        if share < MIN_SHARE and kind in DECLARING:
            passed.append((place, kind, round(share, 2)))
    assert passed == []


@pytest.mark.parametrize("kind", [*DECLARING, *UNDECLARED])
def test_undamaged_audio_of_every_kind_is_whole(kind):
    """The files that the damage is done to decode to all of their speech."""
    heard = decode_audio({**DECLARING, **UNDECLARED}[kind]())
    assert abs(len(heard) / len(SPEECH) - 1) < 0.03

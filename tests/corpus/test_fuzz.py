"""Whatever is damaged in a file, its reader answers with an error of its own, and no audio is lost in silence."""

import io
import random

import pytest

from tests.support.fuzz_audio import DECLARING, RATE_FIELDS, SPEECH, UNDECLARED, mutate_audio
from tests.support.fuzz_tars import make_tars, mutate_tar
from validation.corpus.audio import AudioDecodeError, decode_audio
from validation.corpus.inspect import inspect_tar

pytestmark = pytest.mark.attack
MIN_SHARE = 0.9


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_tar_is_read_or_refused_by_name(count):
    """No error but the project's own leaves the reader, and a refusal names the tar or says that it has no segments."""
    tars = make_tars()
    for place in range(count):
        damaged = mutate_tar(tars[place % len(tars)], random.Random(f"{count}/{place}"))
        found = inspect_tar(io.BytesIO(damaged), "v1.tar")
        assert found.segments or found.refusal.startswith(("v1.tar: ", "v1.tar is ", "no segments")), place


@pytest.mark.parametrize("count", [500, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_audio_is_refused_or_whole(count):
    """A file whose container declares its length never decodes to nine tenths of it or less, and no error but
    ``AudioDecodeError`` leaves the decoder."""
    files = {kind: encode() for kind, encode in {**DECLARING, **UNDECLARED}.items()}
    passed = []
    for place in range(count):
        kind = list(files)[place % len(files)]
        damaged = mutate_audio(files[kind], random.Random(f"{count}/{place}"))
        try:
            share = len(decode_audio(damaged)) / len(SPEECH)
        except AudioDecodeError:
            continue
        rate = RATE_FIELDS.get(kind, slice(0))
        if share < MIN_SHARE and kind in DECLARING and damaged[rate] == files[kind][rate]:
            passed.append((place, kind, round(share, 2)))
    assert passed == []


@pytest.mark.parametrize("kind", [*DECLARING, *UNDECLARED])
def test_undamaged_audio_of_every_kind_is_whole(kind):
    """The files that the damage is done to decode to all of their speech."""
    heard = decode_audio({**DECLARING, **UNDECLARED}[kind]())
    assert abs(len(heard) / len(SPEECH) - 1) < 0.03

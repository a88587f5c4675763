"""Frames and answers arrive as they were sent, however the stream cuts them; what is no frame is refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.domain import Fault, Scored, Unscored
from validation.inference.protocol import (
    FRAME_BYTES,
    BadFrame,
    FrameDecoder,
    decode_answers,
    encode_answers,
    pack_frame,
)

ANY_TEXT = st.text(st.characters())  # halves of surrogate pairs included: transcripts hold them
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT
ANSWERS = st.builds(Scored, st.dictionaries(ANY_TEXT, VALUES, max_size=4)) | st.builds(
    Unscored, st.builds(Fault, ANY_TEXT, ANY_TEXT)
)


@given(st.lists(st.dictionaries(ANY_TEXT, ANSWERS, max_size=3), max_size=5), st.integers(1, 50))
def test_answers_survive_the_way_bit_for_bit(sent, cut):
    """Every float, every text, every fault, in whatever pieces the stream delivers."""
    stream = b"".join(pack_frame({"answer": encode_answers(answers)}) for answers in sent)
    inbox, got = FrameDecoder(), []
    for start in range(0, len(stream), cut):
        inbox.feed(stream[start : start + cut])
        while (frame := inbox.pop()) is not None:
            got.append(decode_answers(frame["answer"]))
    assert got == sent


def frame_of(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack(">I", FRAME_BYTES + 1),
        frame_of(b"{"),
        frame_of(b"\xff\xfe"),
        frame_of(b"[1]"),
        frame_of(b"null"),
        frame_of(b"[" * 200_000),
        frame_of(b"9" * 10_000),
    ],
)
def test_what_is_no_frame_is_refused(stream):
    """Before any of it is believed, and without waiting for the rest of what is too large."""
    inbox = FrameDecoder()
    inbox.feed(stream)
    with pytest.raises(BadFrame):
        inbox.pop()

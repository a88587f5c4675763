"""Frames and answers arrive as they were sent, however the stream splits them; malformed frames are refused."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.domain import Fault, Scored, Unscored
from validation.inference.protocol import (
    MAX_FRAME_BYTES,
    BadFrame,
    FrameDecoder,
    decode_answers,
    encode_answers,
    pack_frame,
)

ANY_TEXT = st.text(st.characters())  # lone surrogates included: transcripts hold them
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT
ANSWERS = st.builds(Scored, st.dictionaries(ANY_TEXT, VALUES, max_size=4)) | st.builds(
    Unscored, st.builds(Fault, ANY_TEXT, ANY_TEXT)
)


@given(st.lists(st.dictionaries(ANY_TEXT, ANSWERS, max_size=3), max_size=5), st.integers(1, 50))
def test_answers_are_decoded_bit_for_bit(sent, chunk_bytes):
    """Every float, text and fault is preserved, in whatever pieces the stream delivers them."""
    stream = b"".join(pack_frame({"answer": encode_answers(answers)}) for answers in sent)
    decoder, received = FrameDecoder(), []
    for start in range(0, len(stream), chunk_bytes):
        decoder.feed(stream[start : start + chunk_bytes])
        while (frame := decoder.pop()) is not None:
            received.append(decode_answers(frame["answer"]))
    assert received == sent


def frame_of(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack(">I", MAX_FRAME_BYTES + 1),
        frame_of(b"{"),
        frame_of(b"\xff\xfe"),
        frame_of(b"[1]"),
        frame_of(b"null"),
        frame_of(b"[" * 200_000),
        frame_of(b"9" * 10_000),
    ],
)
def test_malformed_frame_is_refused(stream):
    """A frame that is too large is refused before its body arrives, a frame that is no JSON object when complete."""
    decoder = FrameDecoder()
    decoder.feed(stream)
    with pytest.raises(BadFrame):
        decoder.pop()

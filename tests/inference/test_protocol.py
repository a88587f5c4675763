"""Frames and answers arrive as they were sent, malformed frames are refused, and an arena gives no sample out twice."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from validation.domain import Fault, Scored, Unscored
from validation.inference.protocol import (
    MAX_FRAME_BYTES,
    BadFrame,
    FrameDecoder,
    FreeList,
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


CAPACITY = 50


@given(st.lists(st.one_of(st.integers(1, 30), st.tuples(st.integers(0, 9))), max_size=60))
def test_allocations_do_not_overlap_and_freed_samples_are_free_again(steps):
    """A step that is a number allocates so many samples, a tuple frees the allocation at that place. Allocations do
    not overlap, one that fits is not refused, and when all are freed the arena is one gap again."""
    free_list, held = FreeList(CAPACITY), []
    for step in steps:
        if isinstance(step, tuple):
            if held:
                free_list.free(*held.pop(step[0] % len(held)))
            continue
        taken = {sample for offset, samples in held for sample in range(offset, offset + samples)}
        offset = free_list.allocate(step)
        if offset is None:
            runs = [all(at + n not in taken for n in range(step)) for at in range(CAPACITY - step + 1)]
            assert not any(runs)
        else:
            allocated = range(offset, offset + step)
            assert allocated.start >= 0
            assert allocated.stop <= CAPACITY
            assert taken.isdisjoint(allocated)
            held.append((offset, step))
    for allocation in held:
        free_list.free(*allocation)
    assert free_list.allocate(CAPACITY) == 0

"""Transcripts in the encodings that editors write."""

import codecs

import pytest

from tests.support.layout_helpers import AUDIO, faults, lay_out, texts
from validation.corpus.segment_refs import BadLayout

TEXT = "नमस्ते"


@pytest.mark.parametrize(
    "payload",
    [
        TEXT.encode(),
        codecs.BOM_UTF8 + TEXT.encode(),
        TEXT.encode("utf-16"),
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16 little endian", "utf-16 big endian"],
)
def test_text_with_a_byte_order_mark_is_read(payload):
    """A transcript may be UTF-8, or UTF-16 with its mark, as editors on Windows write it."""
    assert texts(lay_out({"a.flac": AUDIO, "a.txt": payload})) == [TEXT]


def test_undecodable_text_is_named():
    """Where it is the only one the tar is refused with the reason; beside others it is the fault of its segment."""
    latin = "café".encode("latin-1")
    with pytest.raises(BadLayout, match=r"a\.txt cannot be read: 'utf-8' codec can't decode"):
        lay_out({"a.flac": AUDIO, "a.txt": latin})
    assert faults(lay_out({"a.flac": AUDIO, "a.txt": latin, "b.flac": AUDIO, "b.txt": b"x"})) == {"a": "bad_transcript"}

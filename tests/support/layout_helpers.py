"""Tars of in-memory files, and views of their layouts."""

import io
import json
import random
import tarfile

from tests.support.corpus_samples import make_tar
from validation.corpus.budget import TarLimits
from validation.corpus.layouts import Layout, read_layout
from validation.corpus.segment_refs import read_listing
from validation.domain import Fault

SLICES = [{"text": "b", "start": 2.5, "end": 4}, {"text": "a", "start": "0.5", "duration": 2}]

AUDIO = b"sound"


LIMITS = TarLimits()


def lay_out(files: dict[str, object], limits: TarLimits = LIMITS) -> Layout:
    """Pack files, shuffled, and read their layout back: no layout depends on the order of a tar."""
    names = random.Random(len(files)).sample(sorted(files), len(files))
    packed = io.BytesIO(make_tar({name: files[name] for name in names}, style=tarfile.PAX_FORMAT))
    return read_layout(read_listing(packed, "v1.tar", limits))


def names(layout: Layout) -> list[str]:
    return [ref.name for ref in layout.segments]


def texts(layout: Layout) -> list[str | None]:
    return [ref.record.text for ref in layout.segments]


def faults(layout: Layout) -> dict[str, str]:
    return {ref.name: ref.audio.kind for ref in layout.segments if isinstance(ref.audio, Fault)}


def lines(*rows: object) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def make_cut(cut_id: str, *supervisions: dict[str, object]) -> dict[str, object]:
    return {"id": cut_id, "start": 0, "duration": 3.0, "type": "MonoCut", "supervisions": list(supervisions)}

"""The stored transcripts of a batch held against what was heard: CTC over all of them at once."""

from collections.abc import Iterator, Sequence

import torch

from validation.models.conformer.segment import LARGEST_LATTICE, SegmentResult, TranscriptScore
from validation.models.conformer.vocabulary import BLANK
from validation.models.ctc import align_texts, one_thread, score_texts


def compare_transcripts(listenings: Sequence[SegmentResult], device: str) -> None:
    """Score the transcript and the recognised text of each that can be compared, and align the transcript.

    On a card where there is one: its few hundred small steps take as long for one segment as for a hundred, and the
    processor two milliseconds a segment, in which the card stands still.

    Args:
        listenings: of one batch; each is given its ``comparison``.
        device: where to compute.
    """
    with one_thread():
        for group in _share_out([listening for listening in listenings if listening.is_comparable]):
            _compare(group, device)


def _share_out(listenings: Sequence[SegmentResult]) -> Iterator[list[SegmentResult]]:
    """Cut into groups whose lattices, padded to the largest of each, fit in memory together."""
    group: list[SegmentResult] = []
    for listening in listenings:
        wider = [*group, listening]
        cells = len(wider) * max(item.frames for item in wider) * max(item.states for item in wider)
        if group and cells > LARGEST_LATTICE:
            yield group
            wider = [listening]
        group = wider
    if group:
        yield group


def _compare(group: Sequence[SegmentResult], device: str) -> None:
    frames = torch.tensor([item.frames for item in group], device=device)
    heard = [torch.from_numpy(item.log_probs) for item in group]
    padded = torch.nn.utils.rnn.pad_sequence(heard, batch_first=True).to(device)
    transcripts = [item.transcript_tokens for item in group]
    rows = zip(
        group,
        score_texts(padded, frames, transcripts, blank=BLANK),
        score_texts(padded, frames, [item.greedy for item in group], blank=BLANK),
        align_texts(padded, frames, transcripts, blank=BLANK),
        strict=True,
    )
    for item, transcript_lp, greedy_lp, alignment in rows:
        item.comparison = TranscriptScore(transcript_lp, greedy_lp, alignment)

"""Character error rates and speaking rate. A character is a Unicode code point of a normalised text."""

from rapidfuzz.distance import Levenshtein

from validation.domain import Seconds

EDGE_CHARS = 12
"""How many characters an edge has: about a second of speech, two words in most languages."""


def cer(reference: str, hypothesis: str) -> float | None:
    """Edits (substitutions, insertions, deletions) from reference to hypothesis, per reference character.

    0 means equal; an empty hypothesis scores 1; a hypothesis longer than its reference may score more.
    An empty reference has no rate: None, since neither 0 nor infinity would be true of it.

    Give both texts through ``comparable_text``.
    """
    return Levenshtein.distance(reference, hypothesis) / len(reference) if reference else None


def edge_cer_start(reference: str, hypothesis: str, edge_chars: int = EDGE_CHARS) -> float | None:
    """How badly the hypothesis misses the reference's first characters, in [0, 1].

    The least edits between those characters and any beginning of the hypothesis, per character: 0 when the
    hypothesis begins as the reference does, whatever follows. High where a cut took away the first word,
    which the rate over the whole text hides. None for an empty reference.
    """
    edge = reference[:edge_chars]
    if not edge:
        return None
    # A beginning more than twice as long as the edge costs more than leaving it all out.
    reach = min(len(hypothesis), 2 * len(edge))
    return min(Levenshtein.distance(edge, hypothesis[:n]) for n in range(reach + 1)) / len(edge)


def edge_cer_end(reference: str, hypothesis: str, edge_chars: int = EDGE_CHARS) -> float | None:
    """``edge_cer_start`` of both texts read backwards: how badly the last characters are missed."""
    return edge_cer_start(reference[::-1], hypothesis[::-1], edge_chars)


def chars_per_second(text: str, duration_s: Seconds) -> float | None:
    """Characters a second of audio, spaces not counted; None for audio without length."""
    return len(text.replace(" ", "")) / duration_s if duration_s > 0 else None

"""The laws of character error rates and speaking rate."""

from hypothesis import given
from hypothesis import strategies as st

from validation.scoring.cer import EDGE_CHARS, cer, chars_per_second, edge_cer_end, edge_cer_start

WORDS = st.text("abकखह ", max_size=20)
REFERENCES = st.text("abकखह ", min_size=1, max_size=20)


def count_edits(reference: str, hypothesis: str) -> int:
    """The textbook recurrence, as slow as it is plain."""
    row = list(range(len(hypothesis) + 1))
    for i, left in enumerate(reference, 1):
        row, above = [i], row
        for j, right in enumerate(hypothesis, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (left != right)))
    return row[-1]


@given(REFERENCES, WORDS)
def test_cer_counts_the_least_edits(reference, hypothesis):
    """Equal to the textbook's edit distance, per character of the reference."""
    assert cer(reference, hypothesis) == count_edits(reference, hypothesis) / len(reference)


@given(REFERENCES)
def test_cer_of_equal_texts_is_zero_and_of_silence_one(reference):
    """The two ends that everybody expects."""
    assert cer(reference, reference) == 0
    assert cer(reference, "") == 1


@given(WORDS)
def test_an_empty_reference_has_no_rate(hypothesis):
    """Neither right nor wrong: no number says so."""
    assert cer("", hypothesis) is None
    assert edge_cer_start("", hypothesis) is None
    assert edge_cer_end("", hypothesis) is None


@given(REFERENCES, WORDS)
def test_an_edge_is_compared_with_the_best_beginning(reference, hypothesis):
    """No beginning of the hypothesis, however long, fits the edge better than the one that was found."""
    edge = reference[:EDGE_CHARS]
    best = min(count_edits(edge, hypothesis[:n]) for n in range(len(hypothesis) + 1))
    assert edge_cer_start(reference, hypothesis) == best / len(edge)


@given(REFERENCES, WORDS, WORDS)
def test_an_edge_that_was_heard_costs_nothing(reference, missing, added):
    """What happens after the edge does not count against it; a lost edge counts in full."""
    assert edge_cer_start(reference, reference[:EDGE_CHARS] + added) == 0
    assert edge_cer_end(reference, added + reference[-EDGE_CHARS:]) == 0
    assert 0 <= edge_cer_start(reference, missing) <= 1


@given(REFERENCES, WORDS)
def test_the_end_is_the_start_of_the_mirror_image(reference, hypothesis):
    """Both edges are measured alike."""
    assert edge_cer_end(reference, hypothesis) == edge_cer_start(reference[::-1], hypothesis[::-1])


def test_what_was_heard_before_the_edge_costs_its_own_length():
    """A false start is an insertion and does not push the edge's own letters out of sight."""
    assert edge_cer_start("नमस्तेदुनिया", "अरे" + "नमस्तेदुनिया") == len("अरे") / EDGE_CHARS


def test_a_cut_off_first_word_shows_at_the_edge():
    """What the whole text hides, the edge tells."""
    reference = "नमस्ते दुनिया यह एक लंबा वाक्य है जो बहुत देर तक चलता रहता है"
    hypothesis = reference.removeprefix("नमस्ते ")
    assert cer(reference, hypothesis) < 0.15
    assert edge_cer_start(reference, hypothesis) > 0.5
    assert edge_cer_end(reference, hypothesis) == 0


def test_speaking_rate_leaves_spaces_out():
    """Ten letters in two seconds are five a second; audio without length has no rate."""
    assert chars_per_second("abcde fghij", 2.0) == 5
    assert chars_per_second("abc", 0.0) is None

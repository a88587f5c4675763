"""Nearly equal texts have an equal hash, and different texts have none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from validation.analysis.selection.near_texts import BANDS, ROWS, RUN, hash_bands

RANDOM = np.random.default_rng(0)
LETTERS = list("abcdefghijklmnopqrstuvwxyzकखगघ")


def random_text(length=60):
    return "".join(RANDOM.choice(LETTERS, length))


def share_a_band(pairs):
    one, other = (hash_bands([pair[side] for pair in pairs]) for side in (0, 1))
    return (one == other).any(axis=1)


def similarity(one, other):
    runs = [{(text + "\0" * (RUN - 1))[n : n + RUN] for n in range(len(text))} for text in (one, other)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=9))
def test_a_hash_depends_on_its_text_alone(texts):
    """Equal texts have equal hashes, whatever is hashed with them, and however short they are."""
    together = hash_bands(texts)
    assert together.shape == (len(texts), BANDS)
    for text, bands in zip(texts, together, strict=True):
        assert (hash_bands([text])[0] == bands).all()


def test_the_share_of_found_pairs_is_that_of_the_formula():
    """A pair of similarity s has an equal band with the probability 1 - (1 - s ** ROWS) ** BANDS."""
    for changed in (1, 2, 4):
        pairs = []
        for _ in range(400):
            text = random_text()
            other = list(text)
            for place in RANDOM.choice(60, changed, replace=False):
                other[place] = "é"
            pairs.append((text, "".join(other)))
        expected = np.mean([1 - (1 - similarity(*pair) ** ROWS) ** BANDS for pair in pairs])
        assert abs(share_a_band(pairs).mean() - expected) < 0.08


def test_different_texts_share_no_hash():
    """Among 2,000 pairs of random texts, none has an equal band."""
    assert not share_a_band([(random_text(), random_text()) for _ in range(2000)]).any()

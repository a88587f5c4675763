from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from validation.models.ctc import WILDCARD, collapse, find_paths, has_alignment, make_alignments, one_thread, sum_paths

BLANK = 3


def draw_log_probs(frames: int, seed: int) -> torch.Tensor:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (frames, BLANK + 1)))
    return logits.log_softmax(dim=1)


def score_texts(log_probs, frames, texts, *, blank):
    return sum_paths(log_probs, frames, texts, blank=blank).tolist()


def align_texts(log_probs, frames, texts, *, blank):
    paths = [tensor.numpy() for tensor in find_paths(log_probs, frames, texts, blank=blank)]
    return make_alignments(*paths, frames.tolist(), texts)


def run_batch(question, log_probs, texts):
    """Call a function on items of different lengths; the padding holds values that are no probabilities."""
    frames = torch.tensor([len(item) for item in log_probs])
    padded = torch.nn.utils.rnn.pad_sequence(list(log_probs), batch_first=True, padding_value=7.0)
    return question(padded, frames, texts, blank=BLANK)


def paths_of(log_probs, text):
    """Every path of frames that spells a text, by brute force; a wildcard has states of its own."""
    if WILDCARD in text:
        # The wildcard is a symbol of its own, which takes in each frame the best value there.
        wild = BLANK + 1
        log_probs = torch.cat([log_probs, log_probs.amax(dim=1, keepdim=True)], dim=1)
        text = [wild if token == WILDCARD else token for token in text]
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if collapse(np.array(path), blank=BLANK) == tuple(text):
            yield path, sum(float(log_probs[frame, symbol]) for frame, symbol in enumerate(path))


texts = st.lists(st.integers(0, BLANK - 1), max_size=4) | st.sampled_from([[WILDCARD], [0, WILDCARD], [WILDCARD, 1, 1]])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), texts, st.integers(0, 999)), min_size=1, max_size=3))
def test_scores_equal_those_of_all_paths(items):
    """Sum and maximum over the lattice equal sum and maximum over every path, for any batch and lengths."""
    items = [(frames, text, seed) for frames, text, seed in items if has_alignment(text, frames)] or [(2, [1], 0)]
    log_probs = [draw_log_probs(frames, seed) for frames, _, seed in items]
    totals, alignments = (
        run_batch(ask, log_probs, [text for _, text, _ in items]) for ask in (score_texts, align_texts)
    )
    rows = zip(log_probs, items, totals, alignments, strict=True)
    for own, (_, text, _), total, alignment in rows:
        paths = list(paths_of(own, text))
        assert total == pytest.approx(np.logaddexp.reduce([log_p for _, log_p in paths]), abs=1e-9)
        assert alignment.log_p == pytest.approx(max(log_p for _, log_p in paths), abs=1e-9)
        assert len(alignment.token_lp) == len(text)


@settings(deadline=None)
@given(st.integers(1, 6), texts)
def test_a_text_is_feasible_exactly_if_it_has_a_path(frames, text):
    """An infeasible text has probability zero over all alignments."""
    (total,) = run_batch(score_texts, [draw_log_probs(frames, 0)], [text])
    assert has_alignment(text, frames) == np.isfinite(total)


def test_a_token_is_scored_over_its_own_frames():
    """A missing word lowers the scores of its own tokens only."""
    log_probs = torch.full((5, BLANK + 1), -4.0, dtype=torch.float64)
    for frame, symbol in enumerate([0, 0, BLANK, 1, BLANK]):
        log_probs[frame, symbol] = -0.1
    (alignment,) = run_batch(align_texts, [log_probs], [[0, 2]])
    assert alignment.token_lp == pytest.approx([-0.1, -4.0])
    assert alignment.log_p == pytest.approx(-0.1 * 4 - 4.0)
    assert alignment.frame_lp == pytest.approx([-0.1, -0.1, -0.1, -4.0, -0.1])
    assert (alignment.first_frame, alignment.last_frame) == (0, 3)


def test_a_wildcard_never_beats_the_recognised_text():
    """A wildcard takes the likeliest symbol of a frame, and no more."""
    log_probs = draw_log_probs(12, 5)
    (alignment,) = run_batch(align_texts, [log_probs], [[0, WILDCARD, 1]])
    assert alignment.log_p <= float(log_probs.amax(dim=1).sum()) + 1e-12


def test_all_tensors_are_on_the_device_of_the_log_probabilities():
    """A tensor on another device would fail on a GPU. Here the default device of torch stands for the other device."""
    log_probs, texts = torch.stack([draw_log_probs(9, 0), draw_log_probs(9, 1)]), [[0, WILDCARD, 1], []]
    frames = torch.tensor([9, 7])
    expected = [ask(log_probs, frames, texts, blank=BLANK) for ask in (score_texts, align_texts)]
    with torch.device("meta"):
        found = [ask(log_probs, frames, texts, blank=BLANK) for ask in (score_texts, align_texts)]
    assert found[0] == expected[0]
    assert [alignment.log_p for alignment in found[1]] == [alignment.log_p for alignment in expected[1]]


def test_single_precision_is_close_to_double_precision():
    """On a GPU all sums are in single precision: over ten seconds they differ by less than 1e-3 nats."""
    log_probs, frames, texts = draw_log_probs(125, 3)[None], torch.tensor([125]), [[n % BLANK for n in range(40)]]
    for ask in (score_texts, align_texts):
        (fine,), (coarse,) = (ask(values, frames, texts, blank=BLANK) for values in (log_probs, log_probs.float()))
        fine, coarse = (found if isinstance(found, float) else found.log_p for found in (fine, coarse))
        assert coarse == pytest.approx(fine, abs=1e-3)


def test_one_thread_restores_the_number_of_threads():
    """CTC runs on one thread; the networks have theirs again afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_collapse_merges_repeats_and_drops_blanks():
    """Repeats are one token unless a blank separates them."""
    assert collapse(np.array([BLANK, 0, 0, BLANK, 0, 2, 2, BLANK]), blank=BLANK) == (0, 0, 2)
    assert collapse(np.array([BLANK, BLANK]), blank=BLANK) == ()

from hypothesis import given
from hypothesis import strategies as st

from tests.support.speech_samples import silence
from validation.domain import Utterance
from validation.models.batching import measure_padding, pad_batch, padded_cost_s, plan_batches, take_rows

DURATIONS = st.lists(st.floats(0.1, 400), max_size=60)
BUDGETS = st.floats(1, 1500)


@given(DURATIONS, BUDGETS)
def test_every_item_is_in_one_batch(durations_s, budget_s):
    """No segment is lost or scored twice."""
    plan = plan_batches(durations_s, budget_s)
    assert sorted(item for batch in plan for item in batch) == list(range(len(durations_s)))


@given(DURATIONS, BUDGETS, st.sampled_from([0.0, 10.0]))
def test_no_batch_exceeds_the_budget_unless_it_is_one_item(durations_s, budget_s, min_padded_s):
    """The budget bounds memory; only an item that is too long by itself exceeds it."""
    for batch in plan_batches(durations_s, budget_s, min_padded_s=min_padded_s):
        longest_s = max(min_padded_s, *(durations_s[item] for item in batch))
        assert len(batch) == 1 or len(batch) * padded_cost_s(longest_s) <= budget_s * (1 + 1e-12)


@given(DURATIONS, BUDGETS)
def test_the_longest_items_come_first(durations_s, budget_s):
    """The greatest need of memory shows in the first batch, and items of a batch have similar lengths."""
    order = [durations_s[item] for batch in plan_batches(durations_s, budget_s) for item in batch]
    assert order == sorted(durations_s, reverse=True)


@given(DURATIONS, BUDGETS)
def test_a_batch_is_as_full_as_the_budget_allows(durations_s, budget_s):
    """The first item of the next batch would exceed the budget."""
    plan = plan_batches(durations_s, budget_s)
    for batch in plan[:-1]:
        assert (len(batch) + 1) * padded_cost_s(durations_s[batch[0]]) > budget_s * (1 - 1e-12)


def test_sorting_pads_less_than_arrival_order():
    """Forty segments of 1 and 20 s have at most 20 % padding when sorted."""
    arrived_s = [1.0, 20.0] * 20
    sorted_fill = sum(
        measure_padding([arrived_s[item] for item in batch]).padded_s for batch in plan_batches(arrived_s, 100.0)
    )
    arrival_fill = sum(measure_padding(arrived_s[start : start + 4]).padded_s for start in range(0, 40, 4))
    assert sorted_fill <= 1.2 * sum(arrived_s) < arrival_fill


def test_rows_of_a_batch_lose_superfluous_padding():
    """Half of a batch equals the batch of its own items."""
    batch = pad_batch([Utterance(silence(s) + s, f"{s}", "en") for s in (0.4, 0.1, 0.2)])
    half = take_rows(batch, [1, 2])
    assert half.waveforms.shape == (2, 3200)
    assert list(half.lengths) == [1600, 3200]
    assert list(half.texts) == ["0.1", "0.2"]
    assert (half.waveforms[0, :1600] == batch.waveforms[1, :1600]).all()
    assert (half.waveforms[0, 1600:] == 0).all()

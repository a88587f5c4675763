"""The pool's laws, without clock, thread or socket."""

from collections import Counter

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from validation.domain import SAMPLE_RATE, Utterance
from validation.inference.batch_queue import OLDEST_CLIENT_WEIGHT, FairBatchQueue, Request, may_ask
from validation.inference.scheduler import MAX_INFLIGHT_BATCHES_PER_CLIENT
from validation.inference.shared_memory import ARENA_BYTES
from validation.models.batching import padded_cost_s, plan_batches

LEAST_S = 0.5
DURATIONS = st.floats(0.01, 30)
BUDGETS = st.floats(1, 200)
CROWDS = st.lists(st.tuples(st.sampled_from("abc"), DURATIONS), max_size=40)


def ask(client: object, duration_s: float, *, arrived_s: float = 0.0, deaths: int = 0) -> Request:
    audio = np.broadcast_to(np.float32(0), (int(duration_s * SAMPLE_RATE),))  # no memory
    return Request(f"{client}-{duration_s}", client, Utterance(audio, "", None), arrived_s, deaths)


def pool_of(asks: list[Request]) -> FairBatchQueue:
    pool = FairBatchQueue(min_padded_s=LEAST_S)
    for one in asks:
        pool.add(one)
    return pool


def drain(pool: FairBatchQueue, budget_s: float) -> list[list[Request]]:
    batches = []
    while len(pool):
        batches.append(pool.take(budget_s))
    return batches


def cost_of(batch: list[Request]) -> float:
    return len(batch) * padded_cost_s(max(LEAST_S, *(one.utterance.duration_s for one in batch)))


@given(CROWDS, BUDGETS)
def test_everything_that_waits_travels_once_within_the_budget(crowd, budget_s):
    """Whoever asks for whatever: nothing is lost, nothing doubled, no batch of several exceeds the budget."""
    asks = [ask(client, duration_s, arrived_s=n) for n, (client, duration_s) in enumerate(crowd)]
    pool = pool_of(asks)
    batches = drain(pool, budget_s)
    assert sorted(one.arrived_s for batch in batches for one in batch) == list(range(len(asks)))
    assert all(len(batch) == 1 or cost_of(batch) <= budget_s * (1 + 1e-9) for batch in batches)
    assert (pool.audio_s, pool.oldest_s(), pool.take(budget_s)) == (0.0, None, [])


@given(st.lists(DURATIONS, max_size=40), BUDGETS)
def test_one_client_alone_gets_the_batches_of_the_suite(durations_s, budget_s):
    """So answers in the host and in one's own process come from the very same batches."""
    asks = [ask("a", duration_s, arrived_s=n) for n, duration_s in enumerate(durations_s)]
    plan = plan_batches([one.utterance.duration_s for one in asks], budget_s, min_padded_s=LEAST_S)
    assert [[int(one.arrived_s) for one in batch] for batch in drain(pool_of(asks), budget_s)] == plan


@given(CROWDS, BUDGETS, st.data())
def test_who_leaves_takes_along_what_it_asked(crowd, budget_s, data):
    """And nobody else's."""
    asks = [ask(client, duration_s) for client, duration_s in crowd]
    pool = pool_of(asks)
    gone = pool.take(budget_s) if data.draw(st.booleans()) else []
    left = [one for one in asks if one not in gone]
    assert Counter(pool.drop("b")) == Counter(one for one in left if one.client == "b")
    assert Counter(one for batch in drain(pool, budget_s) for one in batch) == Counter(
        one for one in left if one.client != "b"
    )


@given(
    st.lists(DURATIONS, min_size=1, max_size=60), st.lists(DURATIONS, min_size=1, max_size=8), BUDGETS, st.booleans()
)
@example([2.0], [1.0, 1.0], 1.0, True)  # a queue that empties for a moment earns nothing by it
def test_a_greedy_client_delays_a_small_one_by_no_more_than_its_share(greedy, small, budget_s, greedy_is_eldest):
    """However much another client has waiting and goes on to ask: until the small one is done, batches that the greedy
    one led gave it no more than its weight of what the small one was given, and one batch."""
    waiting = {ask("small", duration_s) for duration_s in small}
    crowd = [[ask("greedy", duration_s) for duration_s in greedy], waiting]
    pool = pool_of([one for asks in (crowd if greedy_is_eldest else crowd[::-1]) for one in asks])
    weight = OLDEST_CLIENT_WEIGHT if greedy_is_eldest else 1 / OLDEST_CLIENT_WEIGHT
    led_s = given_s = 0.0
    while waiting:
        batch = pool.take(budget_s)
        waiting -= set(batch)
        for one in batch:
            share_s = cost_of(batch) / len(batch)
            if one.client == "small":
                given_s += share_s
            else:
                led_s += share_s if batch[0].client == "greedy" else 0.0
                pool.add(ask("greedy", one.utterance.duration_s))
    assert led_s <= weight * given_s + max(budget_s, padded_cost_s(max(greedy))) + 1e-6


@given(st.lists(DURATIONS, min_size=1, max_size=60), BUDGETS)
def test_clients_that_begin_together_do_not_end_together(durations_s, budget_s):
    """When the eldest of two with the same work is done, the other was given its weight's share of that, a batch that
    it led and a place in the last: so the models have work while the successor of the first one starts."""
    pool = pool_of([ask(client, duration_s) for duration_s in durations_s for client in ("elder", "younger")])
    given_s = Counter()
    while given_s["elders"] < len(durations_s):
        batch = pool.take(budget_s)
        for one in batch:
            given_s[one.client] += cost_of(batch) / len(batch)
            given_s["elders"] += one.client == "elder"
    most_s = max(budget_s, padded_cost_s(max(LEAST_S, *durations_s)))
    assert given_s["younger"] <= given_s["elder"] / OLDEST_CLIENT_WEIGHT + 2 * most_s + 1e-6


def test_short_segments_of_a_client_do_not_wait_for_ever():
    """A client that goes on asking about longer ones gets its first short one all the same, after what came with it."""
    pool = pool_of([ask("a", 1.0), ask("a", 20.0)])
    for _ in range(3):
        batch = pool.take(21.0)
        if batch[0].utterance.duration_s < 2:
            return
        pool.add(ask("a", 20.0))
    raise AssertionError("the short one still waits")


@given(CROWDS, BUDGETS)
def test_a_suspect_travels_alone(crowd, budget_s):
    """What the host died over keeps no company, so that its next death is its own; all others travel as ever."""
    asks = [ask(client, duration_s, deaths=n % 3 == 0) for n, (client, duration_s) in enumerate(crowd)]
    for batch in drain(pool_of(asks), budget_s):
        assert len(batch) == 1 or not any(one.deaths for one in batch)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20), st.floats(1, 100))
def test_no_client_is_let_in_beyond_its_credit_or_shut_out_by_others(unanswered_s, credit_s):
    """Whoever has its credit unanswered waits, whoever has nothing unanswered never does."""
    total_s, clients = sum(unanswered_s), len(unanswered_s)
    for own_s in unanswered_s:
        let_in = may_ask(own_s, total_s, clients, credit_s=credit_s)
        assert not (let_in and own_s >= credit_s)
        assert let_in or own_s > 0
        assert let_in or own_s >= credit_s or total_s >= 2 * credit_s


ON_A_CARD_S = 324.0
"""The budget of a card of 24 GB."""
ARENA_S = ARENA_BYTES / 4 / SAMPLE_RATE


def test_batches_of_chunks_on_their_way_are_hardly_padded():
    """Two clients of fifty videos each, a hundred segments a video, of the lengths that speech has: with as much before
    the pool as their arenas hold, what travels is 3 % more than what was said."""
    rng = np.random.default_rng(0)
    unasked = {client: [ask(client, d) for d in rng.lognormal(2.08, 0.7, 5000).clip(0.4, 30)] for client in "ab"}
    before = dict.fromkeys(unasked, 0.0)
    pool, real_s, padded_s = pool_of([]), 0.0, 0.0
    while True:
        for client, segments in unasked.items():
            while segments and before[client] + segments[-1].utterance.duration_s < ARENA_S:
                before[client] += segments[-1].utterance.duration_s
                pool.add(segments.pop())
        batch = pool.take(ON_A_CARD_S)
        if not batch:
            break
        lengths_s = [one.utterance.duration_s for one in batch]
        real_s, padded_s = real_s + sum(lengths_s), padded_s + len(batch) * max(lengths_s)
        for one in batch:
            before[one.client] -= one.utterance.duration_s
    assert real_s > 90_000
    assert padded_s / real_s < 1.03
    assert MAX_INFLIGHT_BATCHES_PER_CLIENT * ON_A_CARD_S > ARENA_S

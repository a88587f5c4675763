"""Properties of the batch queue, without clock, thread or socket."""

from collections import Counter

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from validation.domain import SAMPLE_RATE, Utterance
from validation.inference.batch_queue import OLDEST_CLIENT_WEIGHT, FairBatchQueue, Request, may_admit
from validation.inference.protocol import ARENA_BYTES
from validation.inference.scheduler import MAX_INFLIGHT_BATCHES_PER_CLIENT
from validation.models.batching import padded_cost_s, plan_batches

MIN_PADDED_S = 0.5
DURATIONS = st.floats(0.01, 30)
BUDGETS = st.floats(1, 200)
WORKLOADS = st.lists(st.tuples(st.sampled_from("abc"), DURATIONS), max_size=40)


def make_request(client: object, duration_s: float, *, arrived_s: float = 0.0, crash_count: int = 0) -> Request:
    audio = np.broadcast_to(np.float32(0), (int(duration_s * SAMPLE_RATE),))  # takes no memory
    return Request(f"{client}-{duration_s}", client, Utterance(audio, "", None), arrived_s, crash_count)


def queue_of(requests: list[Request]) -> FairBatchQueue:
    queue = FairBatchQueue(min_padded_s=MIN_PADDED_S)
    for request in requests:
        queue.add(request)
    return queue


def drain(queue: FairBatchQueue, budget_s: float) -> list[list[Request]]:
    batches = []
    while len(queue):
        batches.append(queue.pop_batch(budget_s))
    return batches


def cost_of(batch: list[Request]) -> float:
    return len(batch) * padded_cost_s(max(MIN_PADDED_S, *(request.utterance.duration_s for request in batch)))


@given(WORKLOADS, BUDGETS)
def test_every_request_is_in_exactly_one_batch_within_the_budget(workload, budget_s):
    """No request is lost or doubled, and no batch of more than one segment exceeds the budget."""
    requests = [make_request(client, duration_s, arrived_s=n) for n, (client, duration_s) in enumerate(workload)]
    queue = queue_of(requests)
    batches = drain(queue, budget_s)
    assert sorted(request.arrived_s for batch in batches for request in batch) == list(range(len(requests)))
    assert all(len(batch) == 1 or cost_of(batch) <= budget_s * (1 + 1e-9) for batch in batches)
    assert (queue.audio_s, queue.oldest_arrival_s(), queue.pop_batch(budget_s)) == (0.0, None, [])


@given(st.lists(DURATIONS, max_size=40), BUDGETS)
def test_single_client_gets_the_batches_of_plan_batches(durations_s, budget_s):
    """The inference server and a suite in the own process score the same batches."""
    requests = [make_request("a", duration_s, arrived_s=n) for n, duration_s in enumerate(durations_s)]
    plan = plan_batches([request.utterance.duration_s for request in requests], budget_s, min_padded_s=MIN_PADDED_S)
    assert [[int(request.arrived_s) for request in batch] for batch in drain(queue_of(requests), budget_s)] == plan


@given(WORKLOADS, BUDGETS, st.data())
def test_removing_a_client_removes_its_pending_requests_only(workload, budget_s, data):
    """Requests of other clients stay in the queue."""
    requests = [make_request(client, duration_s) for client, duration_s in workload]
    queue = queue_of(requests)
    taken = queue.pop_batch(budget_s) if data.draw(st.booleans()) else []
    pending = [request for request in requests if request not in taken]
    assert Counter(queue.remove_client("b")) == Counter(request for request in pending if request.client == "b")
    assert Counter(request for batch in drain(queue, budget_s) for request in batch) == Counter(
        request for request in pending if request.client != "b"
    )


@given(
    st.lists(DURATIONS, min_size=1, max_size=60), st.lists(DURATIONS, min_size=1, max_size=8), BUDGETS, st.booleans()
)
@example([2.0], [1.0, 1.0], 1.0, True)  # a queue that is empty for a moment earns no credit by it
def test_greedy_client_delays_a_small_one_by_at_most_its_share(greedy, small, budget_s, greedy_is_oldest):
    """A greedy client keeps submitting. Until the small client is done, the batches that the greedy client headed gave
    it no more than its weight times the small client's cost, plus one batch."""
    pending = {make_request("small", duration_s) for duration_s in small}
    workload = [[make_request("greedy", duration_s) for duration_s in greedy], pending]
    queue = queue_of([r for requests in (workload if greedy_is_oldest else workload[::-1]) for r in requests])
    weight = OLDEST_CLIENT_WEIGHT if greedy_is_oldest else 1 / OLDEST_CLIENT_WEIGHT
    greedy_s = small_s = 0.0
    while pending:
        batch = queue.pop_batch(budget_s)
        pending -= set(batch)
        for request in batch:
            share_s = cost_of(batch) / len(batch)
            if request.client == "small":
                small_s += share_s
            else:
                greedy_s += share_s if batch[0].client == "greedy" else 0.0
                queue.add(make_request("greedy", request.utterance.duration_s))
    assert greedy_s <= weight * small_s + max(budget_s, padded_cost_s(max(greedy))) + 1e-6


@given(st.lists(DURATIONS, min_size=1, max_size=60), BUDGETS)
def test_clients_that_begin_together_do_not_end_together(durations_s, budget_s):
    """Two clients have the same work. When the older one is done, the younger one was given its weight's share of that,
    one batch that it headed and a place in the last batch: so the GPU has work while the successor of the first one
    starts."""
    queue = queue_of(
        [make_request(client, duration_s) for duration_s in durations_s for client in ("older", "younger")]
    )
    cost: Counter[str] = Counter()
    done = 0
    while done < len(durations_s):
        batch = queue.pop_batch(budget_s)
        for request in batch:
            cost[request.client] += cost_of(batch) / len(batch)
            done += request.client == "older"
    max_batch_s = max(budget_s, padded_cost_s(max(MIN_PADDED_S, *durations_s)))
    assert cost["younger"] <= cost["older"] / OLDEST_CLIENT_WEIGHT + 2 * max_batch_s + 1e-6


def test_short_segment_is_not_postponed_for_ever():
    """A client that keeps submitting longer segments gets its first short one scored after the round it came with."""
    queue = queue_of([make_request("a", 1.0), make_request("a", 20.0)])
    for _ in range(3):
        batch = queue.pop_batch(21.0)
        if batch[0].utterance.duration_s < 2:
            return
        queue.add(make_request("a", 20.0))
    raise AssertionError("the short segment is still pending")


@given(WORKLOADS, BUDGETS)
def test_crash_suspect_is_scored_alone(workload, budget_s):
    """A segment over which the server crashed gets a batch of its own, so that its next crash is its own; all others
    are batched as ever."""
    requests = [
        make_request(client, duration_s, crash_count=n % 3 == 0) for n, (client, duration_s) in enumerate(workload)
    ]
    for batch in drain(queue_of(requests), budget_s):
        assert len(batch) == 1 or not any(request.crash_count for request in batch)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=20), st.floats(1, 100))
def test_back_pressure_limits_each_client_and_locks_none_out(inflight_s, max_inflight_s):
    """A client at its limit is not admitted; a client with nothing unanswered always is."""
    total_s, clients = sum(inflight_s), len(inflight_s)
    for own_s in inflight_s:
        admitted = may_admit(own_s, total_s, clients, max_inflight_s=max_inflight_s)
        assert not (admitted and own_s >= max_inflight_s)
        assert admitted or own_s > 0
        assert admitted or own_s >= max_inflight_s or total_s >= 2 * max_inflight_s


GPU_BUDGET_S = 324.0
"""The batch budget of a GPU with 24 GB."""
ARENA_S = ARENA_BYTES / 4 / SAMPLE_RATE


def test_batches_of_running_chunks_have_at_most_3_percent_padding():
    """Two clients of fifty videos each, a hundred segments per video, of the lengths that speech has: with as much
    pending as their arenas hold, padding is at most 3 % of the audio."""
    rng = np.random.default_rng(0)
    lengths_s = {client: rng.lognormal(2.08, 0.7, 5000).clip(0.4, 30) for client in "ab"}
    unsent = {client: [make_request(client, d) for d in own] for client, own in lengths_s.items()}
    inflight_s = dict.fromkeys(unsent, 0.0)
    queue, real_s, padded_s = queue_of([]), 0.0, 0.0
    while True:
        for client, requests in unsent.items():
            while requests and inflight_s[client] + requests[-1].utterance.duration_s < ARENA_S:
                inflight_s[client] += requests[-1].utterance.duration_s
                queue.add(requests.pop())
        batch = queue.pop_batch(GPU_BUDGET_S)
        if not batch:
            break
        lengths_s = [request.utterance.duration_s for request in batch]
        real_s, padded_s = real_s + sum(lengths_s), padded_s + len(batch) * max(lengths_s)
        for request in batch:
            inflight_s[request.client] -= request.utterance.duration_s
    assert real_s > 90_000
    assert padded_s / real_s < 1.03
    assert MAX_INFLIGHT_BATCHES_PER_CLIENT * GPU_BUDGET_S > ARENA_S

"""Claims take back what dead holders left, so that no promise hangs on the schedule of the sweep."""

from concurrent.futures import ThreadPoolExecutor

from tests.support.ledger_helpers import claim, execute, expire, expire_box, fetch, statuses
from validation.domain import WorkerProfile
from validation.ledger.chunks import MAX_CRASHES
from validation.ledger.queries import read_expired_chunks, read_workload
from validation.ledger.workers import register_worker


def test_a_claim_takes_expired_leases_back(ledger, seed):
    """The videos of a lost box go to the next claim without a sweep between them."""
    seed(3)
    lost = claim(ledger)
    expire_box(ledger, lost.chunk_id)
    register_worker(ledger, WorkerProfile("bob"))
    assert {video.video_id for video in claim(ledger, worker_id="bob", size=3).videos} == set(statuses(ledger))
    assert [chunk.chunk_id for chunk in read_expired_chunks(ledger)] == [lost.chunk_id]


def test_a_claim_leaves_valid_leases_alone(ledger, seed):
    """A claim gets nothing while every video is held under a valid lease."""
    seed(2)
    held = claim(ledger)
    register_worker(ledger, WorkerProfile("bob"))
    assert claim(ledger, worker_id="bob") is None
    assert fetch(ledger, "SELECT chunk_id FROM validation_chunks WHERE state = 'open'") == [(held.chunk_id,)]


def test_a_claim_fails_a_video_that_crashed_too_often(ledger, seed):
    """The claim counts crashes to the same limit as the sweep."""
    seed(1)
    execute(ledger, f"UPDATE video_queue SET validation_crashes = {MAX_CRASHES - 1}")
    expire(ledger, claim(ledger).chunk_id)
    assert claim(ledger) is None
    assert set(statuses(ledger).values()) == {"validation_failed"}


def test_claims_take_chunks_back_from_each_other(ledger, seed):
    """Workers that claim at once while each has lost a chunk wait for no deadlock, and every video is claimed once."""
    names = [f"w{number}" for number in range(8)]
    seed(80)
    for name in names:
        register_worker(ledger, WorkerProfile(name))
        expire(ledger, claim(ledger, worker_id=name, size=10).chunk_id)
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda name: claim(ledger, worker_id=name, size=10), names))
    taken = [video.video_id for chunk in claims if chunk for video in chunk.videos]
    assert len(taken) == len(set(taken))
    assert fetch(ledger, "SELECT count(*) FROM validation_chunks WHERE state = 'expired'") == [(8,)]


def test_workload_knows_how_long_a_chunk_takes(ledger, seed):
    """The mean from claim to commit; unknown before the first commit."""
    seed(1)
    claim(ledger)
    assert read_workload(ledger).chunk_s is None
    execute(
        ledger,
        "UPDATE validation_chunks SET state = 'committed', closed_at = now(), claimed_at = now() - interval '40 s'",
    )
    assert read_workload(ledger).chunk_s == 40


def test_a_registration_forgets_the_speed_of_the_earlier_session(ledger):
    """A new box under an old worker id is not judged by the speed of the box before it."""
    register_worker(ledger, WorkerProfile("bob"))
    execute(ledger, "UPDATE worker_validators SET avg_segs_per_second = 5")
    register_worker(ledger, WorkerProfile("bob"))
    assert fetch(ledger, "SELECT avg_segs_per_second FROM worker_validators") == [(0,)]

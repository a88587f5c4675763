"""The status views over a known history."""

from itertools import pairwise

import pytest

from tests.support.ledger_helpers import claim, execute, shard
from tests.support.status_helpers import commit_one, fail_one, queue, rent, view, work
from validation.domain import ShardReceipt
from validation.ledger.chunks import commit_chunk
from validation.ledger.maintenance import Requeue, requeue_videos


def test_audio_and_verdict_counts_are_summed(ledger):
    """Audio seconds and verdicts are summed over all committed chunks."""
    queue(ledger, hi=10)
    commit_one(ledger, ended_s_ago=1, verdicts=(12, 5, 3), audio_s=61.5)
    commit_one(ledger, ended_s_ago=1, verdicts=(0, 20, 0), audio_s=10.0)
    (fleet,) = view(ledger, "fleet_overview")
    assert (fleet["audio_s"], fleet["accepted"], fleet["review"], fleet["rejected"]) == (71.5, 12, 25, 3)


CANARY = """
    INSERT INTO validation.canaries (video_id, suite, models, answers)
    SELECT q.video_id, 's', '{}', '[{}]'
    FROM video_queue q JOIN validation_chunks c ON c.chunk_id = q.validation_chunk
    WHERE c.audio_s = 50
    LIMIT 1
"""


def test_revalidated_videos_count_once(ledger):
    """Audio, verdicts and price per hour count current results only: each video's last chunk, and no canaries."""
    queue(ledger, hi=10)
    rent(ledger, hours=1.0, usd_per_hour=1.0)
    first = commit_one(ledger, ended_s_ago=3, verdicts=(12, 5, 3), audio_s=100.0)
    commit_one(ledger, ended_s_ago=2, verdicts=(20, 0, 0), audio_s=50.0)
    again = Requeue([video.video_id for video in first.videos])
    requeue_videos(ledger, again)
    commit_one(ledger, ended_s_ago=1, verdicts=(0, 0, 20), audio_s=90.0)
    requeue_videos(ledger, again)
    commit_one(ledger, ended_s_ago=0, verdicts=None, audio_s=None)  # asked some models only, and counted nothing
    (fleet,) = view(ledger, "fleet_overview")
    assert (fleet["audio_s"], fleet["accepted"], fleet["review"], fleet["rejected"]) == (140.0, 20, 0, 20)
    assert fleet["segments"] == 40
    assert float(view(ledger, "cost_so_far")[0]["audio_hours"]) == pytest.approx(140 / 3600)

    execute(ledger, CANARY)
    (fleet,) = view(ledger, "fleet_overview")
    assert (fleet["audio_s"], fleet["accepted"], fleet["rejected"]) == (130.0, 16, 20)


def test_missing_counts_are_null(ledger):
    """A chunk without counts gives null, not zero."""
    queue(ledger, hi=5)
    chunk = claim(ledger)
    videos = {video.video_id: 4 for video in chunk.videos}
    receipt = ShardReceipt(
        **{name: getattr(shard(of=chunk), name) for name in ("key", "sha256", "size_bytes", "suite")}, segments=20
    )
    commit_chunk(ledger, chunk.chunk_id, shard=receipt, validated=videos, failed=[], max_attempts=3)
    (fleet,) = view(ledger, "fleet_overview")
    assert (fleet["audio_s"], fleet["accepted"]) == (None, None)
    assert view(ledger, "progress_history")[-1]["accepted"] is None


def test_eta_interval_narrows_with_commits(ledger):
    """No commit: no rate. One commit: a rate without bounds. An even half hour: narrow bounds around the estimate."""
    queue(ledger, hi=400)
    (eta,) = view(ledger, "eta")
    assert (eta["videos_left"], eta["videos_per_s"], eta["seconds_left"]) == (400, None, None)

    commit_one(ledger, ended_s_ago=1)
    (eta,) = view(ledger, "eta")
    assert eta["seconds_left"] > 0
    assert (eta["seconds_left_min"], eta["seconds_left_max"]) == (None, None)

    work(ledger, minutes=30)
    (eta,) = view(ledger, "eta")
    assert eta["seconds_left_min"] <= eta["seconds_left"] <= eta["seconds_left_max"]
    assert eta["seconds_left"] == pytest.approx(245 / (155 / 1800), rel=0.05)
    assert eta["seconds_left_max"] < 1.3 * eta["seconds_left"]


def test_rate_does_not_depend_on_claim_times(ledger):
    """The commits of an hour are divided by an hour, even if one chunk was claimed long before."""
    queue(ledger, hi=400)
    for n in range(20):
        commit_one(ledger, ended_s_ago=n * 180 + 1)
    commit_one(ledger, ended_s_ago=1, took_s=3 * 3600)
    (eta,) = view(ledger, "eta")
    assert eta["videos_per_s"] == pytest.approx(105 / 3600, rel=0.01)


def test_only_final_failures_count_as_done(ledger):
    """A video that failed and was requeued counts as left, and in no rate."""
    queue(ledger, hi=40)
    commit_one(ledger, ended_s_ago=600, took_s=1)
    (before,) = view(ledger, "eta")
    fail_one(ledger, ended_s_ago=300, transient=True)
    (after,) = view(ledger, "eta")
    assert (before["videos_left"], after["videos_left"]) == (35, 35)
    assert after["videos_per_s"] == pytest.approx(before["videos_per_s"], rel=0.01)
    fail_one(ledger, ended_s_ago=300, transient=False)
    (final,) = view(ledger, "eta")
    assert final["videos_left"] == 30
    assert final["videos_per_s"] == pytest.approx(2 * before["videos_per_s"], rel=0.01)


def test_eta_has_no_upper_bound_after_one_burst(ledger):
    """After the same work in one burst, a rate of zero cannot be excluded, so the interval is open."""
    queue(ledger, hi=200)
    commit_one(ledger, ended_s_ago=1500, size=1, verdicts=(4, 0, 0))
    for _ in range(6):
        commit_one(ledger, ended_s_ago=1490)
    (eta,) = view(ledger, "eta")
    assert eta["seconds_left_min"] < eta["seconds_left"]
    assert eta["seconds_left_max"] is None


def test_history_sums_to_the_totals(ledger):
    """The steps add up to the committed chunks, videos and segments; the videos left fall by commits and by final
    failures."""
    queue(ledger, hi=75)
    work(ledger, minutes=10)
    fail_one(ledger, ended_s_ago=200, transient=False)
    fail_one(ledger, ended_s_ago=300, transient=True)
    history = view(ledger, "progress_history")
    assert sum(row["chunks"] for row in history) == 12
    assert sum(row["failed"] for row in history) == 5
    assert sum(row["segments"] for row in history) == 200
    assert history[-1]["videos_left"] == 20
    assert history[0]["videos_left"] + history[0]["videos"] + history[0]["failed"] == 75
    assert all(a["videos_left"] - b["videos_left"] == b["videos"] + b["failed"] for a, b in pairwise(history))
    assert sum(row["duration_s"] for row in history) == pytest.approx(601, abs=5)


@pytest.mark.parametrize(("hours_ago", "step_s"), [(1, 60), (5, 600), (100, 3600)])
def test_steps_fit_the_length_of_the_history(ledger, hours_ago, step_s):
    """Steps are a minute for a demo, ten minutes for a day and an hour for a week: at most about 170 steps."""
    queue(ledger, hi=5)
    commit_one(ledger, ended_s_ago=hours_ago * 3600 - 60)
    history = view(ledger, "progress_history")
    assert (history[1]["starts_at"] - history[0]["starts_at"]).total_seconds() == step_s
    assert len(history) <= 170


def test_cost_is_null_without_instances_and_spread_over_steps(ledger):
    """Without an instance the cost is null; with one, each step has its share, and audio has a price per hour."""
    queue(ledger, hi=20)
    commit_one(ledger, ended_s_ago=1700, took_s=100, audio_s=3600.0)
    assert view(ledger, "cost_so_far")[0]["spent_usd"] is None
    assert view(ledger, "progress_history")[0]["usd"] is None

    rent(ledger, hours=0.25, usd_per_hour=2.0, usd_once=0.1)
    (cost,) = view(ledger, "cost_so_far")
    assert float(cost["spent_usd"]) == pytest.approx(0.6, abs=0.01)
    assert float(cost["usd_per_hour"]) == 2.0
    assert float(cost["usd_per_1000_audio_hours"]) == pytest.approx(600, rel=0.02)
    history = view(ledger, "progress_history")
    assert float(sum(row["usd"] for row in history)) == pytest.approx(0.6, abs=0.01)
    assert history[0]["usd"] == 0


def test_ended_instance_stops_billing(ledger):
    """An ended instance keeps its total cost and adds nothing per hour."""
    queue(ledger, hi=5)
    commit_one(ledger, ended_s_ago=1700, took_s=100)
    rent(ledger, hours=0.5, usd_per_hour=2.0)
    execute(
        ledger,
        "UPDATE fleet_instances "
        "SET state = 'gone', reason = 'done', closed_at = now(), billed_until = now() - interval '15 minutes'",
    )
    (cost,) = view(ledger, "cost_so_far")
    assert float(cost["spent_usd"]) == pytest.approx(0.5, abs=0.01)
    assert cost["usd_per_hour"] == 0

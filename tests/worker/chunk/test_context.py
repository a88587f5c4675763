"""A chunk from claim to commit against a real ledger and a real store, without Prefect."""

import time
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.support import fragile_decoder
from tests.support.chunk_helpers import attempts, shard_keys
from tests.support.ledger_helpers import expire, fetch, statuses
from tests.support.worker_fixtures import pack_tone
from validation.corpus import decode_subprocess
from validation.corpus.pack import PackedSegment, pack_video
from validation.domain import Video
from validation.errors import BadInput, ClaimLost, Transient, Unreachable
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.queries import audit_ledger, read_committed_shards
from validation.ledger.rpc import LedgerBusy
from validation.local.sample_corpus import CLIPS
from validation.shards.manifest import ShardManifest
from validation.shards.reader import read_shard, verify_shard
from validation.storage.store import get_bytes, put_if_absent
from validation.worker.chunk import context as contexts
from validation.worker.chunk.context import run_chunk, run_chunk_here
from validation.worker.chunk.runner import GroupIncomplete


def test_a_chunk_ends_as_one_verified_shard(box):
    """The committed shard lies in the store as ledger and manifest describe it, row for row."""
    box.add_videos(*"abcdefg")
    done = run_chunk(box.context)
    assert (done.videos_validated, done.videos_failed, done.segments) == (7, 0, 14)

    (shard,) = read_committed_shards(box.engine)
    payload = get_bytes(box.context.results, shard.shard_key)
    key = "shards/ann/validation_ann_shard_0001"
    assert shard_keys(box) == [f"{key}.manifest.json", f"{key}.parquet"]
    manifest = ShardManifest.from_json(get_bytes(box.context.results, f"{key}.manifest.json"), key)
    verify_shard(payload, manifest)
    assert manifest.sha256 == shard.shard_sha256
    rows = read_shard(payload)
    assert rows.select("video_id", "segment_index").rows() == [(v, n) for v in "abcdefg" for n in (0, 1)]
    assert set(rows["layout"]) == {"pairs"}
    assert rows["audio_member"].is_not_null().all()
    assert not any(law.violations for law in audit_ledger(box.engine))


def test_segment_that_crashes_its_decoder_fails_alone(box, monkeypatch):
    """After a crash the video is decoded in a subprocess, and only the segment that crashes the decoder has a fault."""
    monkeypatch.setattr(decode_subprocess, "COMMAND", fragile_decoder.COMMAND)
    tone = (CLIPS / "hi_ginti.flac").read_bytes()
    audio = [tone, tone + fragile_decoder.KILLER, tone]
    video = Video("a", "hi", 3)
    box.add_videos("a", segments=3, tar=pack_video(video, [PackedSegment(flac, "text") for flac in audio]))
    died = box.context.claim(uuid4(), flow_run_id=None, size=50, languages=())
    expire(box.engine, died.chunk_id)
    sweep_stale_claims(box.engine)

    assert run_chunk(box.context).videos_validated == 1
    (shard,) = read_committed_shards(box.engine)
    rows = read_shard(get_bytes(box.context.results, shard.shard_key))
    assert rows["fault"].to_list() == [None, "decoder_crashed: its decoder died: SIGSEGV", None]


def test_empty_queue_opens_no_chunk(box):
    """If nothing is claimable, nothing is opened and nothing is written."""
    assert run_chunk(box.context) is None
    assert shard_keys(box) == []


def test_different_segment_count_is_recorded_and_no_error(box):
    """A tar with another number of segments than the queue says is validated; the ledger keeps both numbers."""
    box.add_videos("short", tar=pack_tone(Video("short", "hi", 5), 5), segments=9)
    run_chunk(box.context)
    assert fetch(box.engine, "SELECT validation_status, segment_count, validation_segments FROM video_queue") == [
        ("validated", 9, 5)
    ]


def test_a_commit_is_retried_while_the_lease_is_held(box, monkeypatch):
    """Transient errors of the ledger do not lose scored work, without Prefect either."""
    box.add_videos("a")
    errors, commit = (
        [LedgerBusy("commit_chunk", "XX000"), Unreachable("the ledger", "db", "check", "gone")],
        contexts.commit_chunk,
    )

    def fail_twice(*arguments, **facts):
        if errors:
            raise errors.pop()
        return commit(*arguments, **facts)

    monkeypatch.setattr(contexts, "commit_chunk", fail_twice)
    monkeypatch.setattr(contexts, "RETRY_S", 0.01)
    assert run_chunk(box.context).videos_validated == 1
    assert statuses(box.engine) == {"a": "validated"}


def test_run_chunk_registers_the_machine_for_the_chunk(box):
    """`vfleet run-chunk` registers the machine while the chunk runs, and shows it as offline afterwards."""
    box.add_videos("a")
    settings = box.context.settings.model_copy(update={"worker_id": "laptop"})
    assert run_chunk_here(replace(box.context, settings=settings)).videos_validated == 1
    assert statuses(box.engine) == {"a": "validated"}
    assert fetch(box.engine, "SELECT status FROM worker_validators WHERE worker_id = 'laptop'") == [("offline",)]


def test_fetch_retry_fetches_only_the_missing_videos(box, monkeypatch):
    """The videos that a group fetched already are kept when the fetch is retried."""
    box.add_videos("a", "b", "c")
    fetched: list[str] = []
    fetch_video = contexts.fetch_video

    def fail_once_for_b(store, key, video):
        fetched.append(video.video_id)
        if video.video_id == "b" and fetched.count("b") == 1:
            raise Unreachable("the store", key, "check the network", "timed out")
        return fetch_video(store, key, video)

    monkeypatch.setattr("validation.worker.chunk.context.fetch_video", fail_once_for_b)
    claim = box.context.claim(uuid4(), flow_run_id=None, size=3, languages=())
    with box.context.open_chunk(claim, flow_run_id=None) as chunk:
        with pytest.raises(GroupIncomplete):
            chunk.runner.fetch_group(0)
        chunk.runner.fetch_group(0)
    assert sorted(fetched) == ["a", "b", "b", "c"]


def test_failing_scorer_releases_the_chunk(box):
    """A chunk that cannot be scored is released without an attempt and leaves no shard."""
    box.add_videos("a", "b")

    def fail():
        raise Transient("the inference server is gone")

    box.scorer.before = fail
    with pytest.raises(Transient, match="inference server"):
        run_chunk(box.context)
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}
    assert shard_keys(box) == []


def claim_two(context):
    """Claim two videos as a chunk."""
    return context.claim(uuid4(), flow_run_id=None, size=2, languages=())


def test_unknown_error_releases_the_chunk(box):
    """An unknown error never costs an attempt, however often it occurs, and is recorded as the reason of the
    release."""
    box.add_videos("a", "b")

    def fail():
        raise KeyError("peak")

    box.scorer.before = fail
    for _ in range(4):
        with pytest.raises(KeyError):
            run_chunk(box.context)
        assert statuses(box.engine) == {"a": "pending", "b": "pending"}
        assert attempts(box.engine) == {0}
    assert fetch(box.engine, "SELECT DISTINCT close_reason FROM validation_chunks") == [
        ("given back: KeyError: 'peak'",)
    ]
    assert shard_keys(box) == []


def test_an_unknown_error_after_the_upload_deletes_the_shard(box):
    """Nothing is committed, not even the failure of one video, and the ledger stays consistent."""
    box.add_videos("a")
    box.add_videos("missing", tar=False)
    with suppress(ZeroDivisionError), box.context.open_chunk(claim_two(box.context), flow_run_id=None) as chunk:
        chunk.runner.fetch_group(0)
        chunk.runner.score_group(0, ensure_held=chunk.lease.ensure_held)
        chunk.write_shard()
        assert len(shard_keys(box)) == 2
        raise ZeroDivisionError
    assert statuses(box.engine) == {"a": "pending", "missing": "pending"}
    assert attempts(box.engine) == {0}
    assert shard_keys(box) == []
    assert not any(law.violations for law in audit_ledger(box.engine))


@pytest.mark.parametrize("failure", [BadInput("the store's keys are wrong"), KeyError("peak")])
def test_a_wrong_setting_and_a_drain_cost_no_attempt(box, failure):
    """A wrong setting or a drain returns the videos without an attempt."""
    box.add_videos("a", "b")
    context = replace(box.context, draining=lambda: isinstance(failure, KeyError) and bool(ended))
    ended = []
    with suppress(type(failure)), context.open_chunk(claim_two(context), flow_run_id=None):
        ended.append(True)
        raise failure
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}


def test_draining_worker_claims_nothing_new(box):
    """Only a claim repeated under its token still returns its chunk."""
    box.add_videos("a", "b")
    drains = []
    context = replace(box.context, draining=lambda: bool(drains))
    token = uuid4()
    first = context.claim(token, flow_run_id=None, size=1, languages=())
    drains.append(True)
    assert claim_two(context) is None
    assert context.claim(token, flow_run_id=None, size=1, languages=()) == first


def test_lease_of_a_repeated_claim_counts_from_the_first_request(box, monkeypatch):
    """The ledger's lease began at the first request, so the worker counts from there too."""
    box.add_videos("a")
    token, began = uuid4(), time.monotonic()
    for later_s in (0, 40):
        monkeypatch.setattr("validation.worker.chunk.context.time.monotonic", lambda later_s=later_s: began + later_s)
        claim = box.context.claim(token, flow_run_id=None, size=1, languages=())
    with box.context.open_chunk(claim, flow_run_id=None) as chunk:
        assert chunk.lease._held_until == began + box.context.settings.lease_s


def test_drain_commits_finished_videos_and_returns_the_rest(box):
    """A drain finishes the group in work, commits its videos, and returns the other videos without an attempt."""
    box.add_videos(*"abcdefghi", segments=2)
    context = replace(box.context, draining=lambda: box.scorer.scored >= 4)
    done = run_chunk(context)
    assert done.videos_validated == 3
    assert sorted(statuses(box.engine).values()) == ["pending"] * 6 + ["validated"] * 3
    assert fetch(
        box.engine, "SELECT max(validation_attempts) FROM video_queue WHERE validation_status = 'pending'"
    ) == [(0,)]


def test_swept_chunk_commits_nothing_and_leaves_no_shard(box):
    """A worker that lost its chunk while scoring commits nothing and deletes the shard that it uploaded."""
    box.add_videos("a", "b")
    claim = box.context.claim(uuid4(), flow_run_id=None, size=2, languages=())
    with suppress(ClaimLost), box.context.open_chunk(claim, flow_run_id=None) as chunk:
        chunk.runner.fetch_group(0)
        chunk.runner.score_group(0, ensure_held=chunk.lease.ensure_held)
        chunk.write_shard()
        expire(box.engine, claim.chunk_id)
        sweep_stale_claims(box.engine)
        chunk.commit()
    assert shard_keys(box) == []
    assert set(statuses(box.engine).values()) == {"pending"}


def test_an_upload_and_a_commit_may_be_repeated(box):
    """A step whose answer was lost can be repeated without harm."""
    box.add_videos("a")
    claim = box.context.claim(uuid4(), flow_run_id=None, size=1, languages=())
    with box.context.open_chunk(claim, flow_run_id=None) as chunk:
        chunk.runner.fetch_group(0)
        chunk.runner.score_group(0, ensure_held=chunk.lease.ensure_held)
        chunk.write_shard()
        chunk.write_shard()
        chunk.commit()
        chunk.commit()
    assert len(shard_keys(box)) == 2
    assert statuses(box.engine) == {"a": "validated"}


def process_one_group(context):
    """Claim and process a chunk of one group; no step is retried."""
    claim = context.claim(uuid4(), flow_run_id=None, size=1, languages=())
    with context.open_chunk(claim, flow_run_id=None) as chunk:
        chunk.runner.fetch_group(0)
        chunk.runner.score_group(0, ensure_held=chunk.lease.ensure_held)
        chunk.write_shard()
        chunk.commit()


def test_shard_of_a_commit_with_a_lost_answer_is_kept(box, monkeypatch):
    """If the ledger committed and the answer was lost, the release finds the commit and deletes nothing."""
    box.add_videos("a")

    def commit_then_lose(engine, chunk_id, **facts):
        commit(engine, chunk_id, **facts)
        raise Unreachable("the ledger", "db", "check it", "connection lost")

    commit = contexts.commit_chunk
    monkeypatch.setattr(contexts, "commit_chunk", commit_then_lose)
    with pytest.raises(Unreachable):
        process_one_group(box.context)
    assert statuses(box.engine) == {"a": "validated"}
    assert len(shard_keys(box)) == 2


def test_commit_is_repeated_after_a_lost_answer(box, monkeypatch):
    """The repeated commit succeeds, even if a renewal meanwhile found the chunk committed."""
    box.add_videos("a")
    lost, commit = [], contexts.commit_chunk

    def lose_first_answer(engine, chunk_id, **facts):
        commit(engine, chunk_id, **facts)
        if not lost:
            lost.append(chunk_id)
            lease.renew()
            raise Unreachable("the ledger", "db", "check it", "connection lost")

    monkeypatch.setattr(contexts, "commit_chunk", lose_first_answer)
    claim = box.context.claim(uuid4(), flow_run_id=None, size=1, languages=())
    with box.context.open_chunk(claim, flow_run_id=None) as chunk:
        lease = chunk.lease
        chunk.runner.fetch_group(0)
        chunk.runner.score_group(0, ensure_held=chunk.lease.ensure_held)
        chunk.write_shard()
        with pytest.raises(Unreachable):
            chunk.commit()
        chunk.commit()
    assert chunk.committed
    assert statuses(box.engine) == {"a": "validated"}
    assert len(shard_keys(box)) == 2


def test_taken_shard_key_is_kept_and_the_next_is_used(box):
    """If a shard number is taken in the bucket, as after a restore, the existing object stays and the next number is
    used."""
    box.add_videos("a")
    taken = "shards/ann/validation_ann_shard_0001.parquet"
    put_if_absent(box.context.results, taken, b"other bytes")
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated"}
    assert get_bytes(box.context.results, taken) == b"other bytes"
    assert fetch(box.engine, "SELECT shard_key FROM validation_shards") == [
        ("shards/ann/validation_ann_shard_0002.parquet",)
    ]

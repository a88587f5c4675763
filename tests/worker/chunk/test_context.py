"""A chunk from claim to commit against a real ledger and a real store, without an orchestrator."""

import time
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

import pytest

from tests.support import fragile_decoder
from tests.support.ledger_helpers import expire, fetch, statuses
from tests.support.worker_fixtures import pack_tone
from validation.corpus import decode_subprocess
from validation.corpus.audio import Undecodable
from validation.corpus.fetch import VideoTooLong
from validation.corpus.layouts import NoSegments
from validation.corpus.pack import PackedSegment, pack_video
from validation.corpus.segment_refs import BadLayout
from validation.corpus.tar import TarCorrupt, TarUnsafe
from validation.domain import Video
from validation.errors import BadInput, ClaimLost, Transient, Unreachable
from validation.ledger.maintenance import sweep_stale_claims
from validation.ledger.queries import audit_ledger, read_committed_shards
from validation.ledger.rpc import LedgerBusy, LedgerRefused
from validation.local.sample_corpus import CLIPS
from validation.shards.manifest import ShardManifest
from validation.shards.reader import read_shard, verify_shard
from validation.storage.errors import InvalidObjectKey, ObjectMissing, StoreRefused
from validation.storage.store import get_bytes, list_keys, open_store, put_once
from validation.worker.chunk import context as contexts
from validation.worker.chunk import runner as runners
from validation.worker.chunk.context import run_chunk, run_chunk_here
from validation.worker.chunk.runner import GroupIncomplete
from validation.worker.chunk.video_errors import SourceMismatch


def attempts(engine) -> set[int]:
    return {n for (n,) in fetch(engine, "SELECT validation_attempts FROM video_queue")}


def shard_keys(box) -> list[str]:
    return sorted(list_keys(box.context.results, "shards"))


def test_a_chunk_ends_as_one_verified_shard(box):
    """What is committed lies in the store as the ledger and the manifest say, row for row."""
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
    assert read_shard(payload).select("video_id", "segment_index").rows() == [(v, n) for v in "abcdefg" for n in (0, 1)]
    assert not any(law.violations for law in audit_ledger(box.engine))


def test_a_segment_that_kills_its_decoder_costs_the_video_no_more(box, monkeypatch):
    """After the crash that it caused, its video is decoded apart: validated, but for that segment."""
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


def test_an_empty_queue_is_no_work(box):
    """Nothing to claim: nothing is opened, nothing is written."""
    assert run_chunk(box.context) is None
    assert shard_keys(box) == []


def test_a_broken_video_fails_alone(box):
    """A missing object, a broken tar and an empty one fail with their reasons; the others are validated."""
    box.add_videos("good")
    box.add_videos("missing", tar=False)
    box.add_videos("cut", tar=pack_tone(Video("cut", "hi", 2), 2)[:3000])
    box.add_videos("empty", tar=b"\0" * 10240)
    run_chunk(box.context)
    errors = dict(fetch(box.engine, "SELECT video_id, validation_error FROM video_queue"))
    assert statuses(box.engine) == {
        "good": "validated", "missing": "validation_failed", "cut": "validation_failed", "empty": "validation_failed",
    }  # fmt: skip
    assert "does not exist" in errors["missing"]
    assert "unexpected end of data" in errors["cut"]
    assert "no segments" in errors["empty"]


def test_a_difference_in_counts_is_recorded_not_punished(box):
    """A tar with other than the promised number of segments is validated; queue and manifest tell both numbers."""
    box.add_videos("short", tar=pack_tone(Video("short", "hi", 5), 5), segments=9)
    run_chunk(box.context)
    assert fetch(box.engine, "SELECT validation_status, segment_count, validation_segments FROM video_queue") == [
        ("validated", 9, 5)
    ]


def test_a_store_that_is_away_costs_no_video_an_attempt(box, monkeypatch):
    """Where nothing can be fetched, no video is to blame: all return as they were."""
    box.add_videos("a", "b")

    def away(*_):
        raise Unreachable("the store", "s3://x", "check the network", "timed out")

    monkeypatch.setattr("validation.worker.chunk.context.fetch_video", away)
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}


def fetch_but(monkeypatch, errors):
    """Fetch as usual, but raise these errors for some videos."""
    fetch_video = contexts.fetch_video

    def fetch_or_fail(store, key, video):
        if video.video_id in errors:
            raise errors[video.video_id]
        return fetch_video(store, key, video)

    monkeypatch.setattr(contexts, "fetch_video", fetch_or_fail)


@pytest.mark.parametrize(
    "error",
    [
        ObjectMissing("b.tar", "s3://x"), InvalidObjectKey("b//.tar", "s3://x"), TarCorrupt("b.tar", "m", "cut"),
        TarUnsafe("b.tar", "../m", "leaves the tar"), BadLayout("b.tar", "two layouts"), NoSegments("b.tar"),
        VideoTooLong("b.tar", 3600.0), Undecodable("undecodable", "not audio"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_an_error_about_a_video_itself_fails_it_alone(box, monkeypatch, error):
    """Its object, its tar, its layout, its audio: the video fails with the sentence, the others are validated."""
    box.add_videos("a", "b")
    fetch_but(monkeypatch, {"b": error})
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated", "b": "validation_failed"}
    assert fetch(box.engine, "SELECT validation_attempts, validation_error FROM video_queue WHERE video_id = 'b'") == [
        (1, str(error))
    ]


@pytest.mark.parametrize(
    "error",
    [
        Unreachable("the store", "s3://x", "check the network", "timed out"), StoreRefused("s3://x", "403", "check it"),
        LedgerRefused("claim_chunk", "no"), ZeroDivisionError("ours"), MemoryError(),
        RecursionError(), OSError(28, "full"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_any_other_error_over_one_video_costs_no_attempt(box, monkeypatch, error):
    """Known or unknown: the video returns with the error and a back-off, the others are validated."""
    box.add_videos("a", "b")
    fetch_but(monkeypatch, {"b": error})
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated", "b": "pending"}
    (row,) = fetch(
        box.engine,
        "SELECT validation_attempts, validation_error, validation_not_before > now() + interval '50 seconds' "
        "FROM video_queue WHERE video_id = 'b'",
    )
    assert (row[0], row[2]) == (0, True)
    assert str(error) in row[1]
    assert not any(law.violations for law in audit_ledger(box.engine))


def test_a_chunk_without_one_object_charges_no_video(box):
    """Bucket, prefix or endpoint is wrong: one sentence, and every video returns as it was."""
    box.add_videos(*"abcdefg", tar=False)
    with pytest.raises(SourceMismatch, match=r"none of the 7 videos .* was found .*VFLEET_SOURCE_URL"):
        run_chunk(box.context)
    assert set(statuses(box.engine).values()) == {"pending"}
    assert attempts(box.engine) == {0}
    assert fetch(box.engine, "SELECT count(*) FROM video_queue WHERE validation_error IS NOT NULL") == [(0,)]


def test_a_store_that_refuses_every_video_charges_none(box):
    """The real server has no such bucket: the run ends with its sentence before anything is scored."""
    box.add_videos("a", "b")
    context = replace(box.context, source=open_store("s3://no-such-bucket", box.context.settings))
    with pytest.raises(StoreRefused):
        run_chunk(context)
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}


def test_rows_that_cannot_be_built_cost_no_attempt(box, monkeypatch):
    """An unexpected error over one video's answers delays this video, and no other."""
    box.add_videos("a", "b")
    build_rows = runners.build_rows

    def fail_b(decoded, answers, scorer):
        if decoded.video.video_id == "b":
            raise KeyError("peak")
        return build_rows(decoded, answers, scorer)

    monkeypatch.setattr(runners, "build_rows", fail_b)
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated", "b": "pending"}
    assert fetch(box.engine, "SELECT validation_attempts FROM video_queue WHERE video_id = 'b'") == [(0,)]


def test_a_commit_is_retried_while_the_lease_is_held(box, monkeypatch):
    """Scored work is kept over transient errors of the ledger, without Prefect too."""
    box.add_videos("a")
    errors, commit = (
        [LedgerBusy("commit_chunk", "XX000"), Unreachable("the ledger", "db", "check", "gone")],
        contexts.commit_chunk,
    )

    def stumble(*arguments, **facts):
        if errors:
            raise errors.pop()
        return commit(*arguments, **facts)

    monkeypatch.setattr(contexts, "commit_chunk", stumble)
    monkeypatch.setattr(contexts, "RETRY_S", 0.01)
    assert run_chunk(box.context).videos_validated == 1
    assert statuses(box.engine) == {"a": "validated"}


def test_a_machine_without_a_worker_runs_a_chunk(box):
    """`vfleet run-chunk` registers the machine while the chunk runs, and shows it as offline afterwards."""
    box.add_videos("a")
    settings = box.context.settings.model_copy(update={"worker_id": "laptop"})
    assert run_chunk_here(replace(box.context, settings=settings)).videos_validated == 1
    assert statuses(box.engine) == {"a": "validated"}
    assert fetch(box.engine, "SELECT status FROM worker_validators WHERE worker_id = 'laptop'") == [("offline",)]


def test_a_retry_fetches_only_what_is_lacking(box, monkeypatch):
    """What a group already fetched is kept when its fetching is tried again."""
    box.add_videos("a", "b", "c")
    asked: list[str] = []
    fetch_video = contexts.fetch_video

    def once_flaky(store, key, video):
        asked.append(video.video_id)
        if video.video_id == "b" and asked.count("b") == 1:
            raise Unreachable("the store", key, "check the network", "timed out")
        return fetch_video(store, key, video)

    monkeypatch.setattr("validation.worker.chunk.context.fetch_video", once_flaky)
    claim = box.context.claim(uuid4(), flow_run_id=None, size=3, languages=())
    with box.context.open_chunk(claim, flow_run_id=None) as chunk:
        with pytest.raises(GroupIncomplete):
            chunk.runner.fetch_group(0)
        chunk.runner.fetch_group(0)
    assert sorted(asked) == ["a", "b", "b", "c"]


def test_a_failing_scorer_gives_the_chunk_back(box):
    """A chunk that cannot be scored returns whole, no attempt lost, and leaves no shard."""
    box.add_videos("a", "b")

    def fail():
        raise Transient("the model host is gone")

    box.scorer.before = fail
    with pytest.raises(Transient, match="model host"):
        run_chunk(box.context)
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}
    assert shard_keys(box) == []


def claim_two(session):
    return session.claim(uuid4(), flow_run_id=None, size=2, languages=())


def test_an_unknown_error_gives_the_chunk_back(box):
    """It costs no attempt, however often it comes; the chunk's row says what it was."""
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
    """Nothing is committed, not even the failure of one video; the ledger stays consistent."""
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
    """A box that is set up wrongly, or is being ended, says nothing about its videos."""
    box.add_videos("a", "b")
    session = replace(box.context, draining=lambda: isinstance(failure, KeyError) and bool(ended))
    ended = []
    with suppress(type(failure)), session.open_chunk(claim_two(session), flow_run_id=None):
        ended.append(True)
        raise failure
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}


def test_a_worker_that_drains_claims_nothing_new(box):
    """But what it had asked for before is found when it asks again: nobody else knows of it."""
    box.add_videos("a", "b")
    drains = []
    session = replace(box.context, draining=lambda: bool(drains))
    token = uuid4()
    first = session.claim(token, flow_run_id=None, size=1, languages=())
    drains.append(True)
    assert claim_two(session) is None
    assert session.claim(token, flow_run_id=None, size=1, languages=()) == first


def test_a_claim_that_was_asked_twice_is_held_since_the_first_time(box, monkeypatch):
    """Its lease is the ledger's, which began then."""
    box.add_videos("a")
    token, began = uuid4(), time.monotonic()
    for later_s in (0, 40):
        monkeypatch.setattr("validation.worker.chunk.context.time.monotonic", lambda later_s=later_s: began + later_s)
        claim = box.context.claim(token, flow_run_id=None, size=1, languages=())
    with box.context.open_chunk(claim, flow_run_id=None) as chunk:
        assert chunk.lease._held_until == began + box.context.settings.lease_s


def test_a_drain_commits_what_is_done_and_returns_the_rest(box):
    """Told to stop, a chunk finishes the group in hand, commits it, and returns what it had not waited for."""
    box.add_videos(*"abcdefghi", segments=2)
    session = replace(box.context, draining=lambda: box.scorer.heard >= 4)
    done = run_chunk(session)
    assert done.videos_validated == 3
    assert sorted(statuses(box.engine).values()) == ["pending"] * 6 + ["validated"] * 3
    assert fetch(
        box.engine, "SELECT max(validation_attempts) FROM video_queue WHERE validation_status = 'pending'"
    ) == [(0,)]


def test_a_chunk_swept_under_its_holder_leaves_nothing(box):
    """A holder that lost its chunk while scoring commits nothing and takes its shard back."""
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
    """Steps whose answer was lost are done again without harm."""
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


def test_a_commit_whose_answer_never_came_keeps_its_shard(box, monkeypatch):
    """The ledger committed, the holder does not know: giving back finds out and deletes nothing."""
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


def test_a_commit_is_asked_again_after_its_answer_was_lost(box, monkeypatch):
    """Also if a renewal meanwhile found the chunk committed: the repeated commit ends the chunk as a success."""
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


def test_another_shard_is_never_overwritten(box):
    """A name that is taken by other bytes stops the chunk; what lay there stays."""
    box.add_videos("a")
    key = "shards/ann/validation_ann_shard_0001.parquet"
    put_once(box.context.results, key, b"somebody else's")
    with pytest.raises(Exception, match="shard_0001"):
        run_chunk(box.context)
    assert statuses(box.engine) == {"a": "pending"}
    assert get_bytes(box.context.results, key) == b"somebody else's"

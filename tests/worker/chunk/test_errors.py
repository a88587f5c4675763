"""Only an error about the video itself costs it an attempt, and an error of every next run stops the worker."""

from dataclasses import replace

import pytest

from tests.support.chunk_helpers import attempts
from tests.support.ledger_helpers import fetch, statuses
from tests.support.worker_fixtures import pack_tone
from validation.corpus.audio import AudioDecodeError
from validation.corpus.fetch import VideoTooLong
from validation.corpus.layouts import NoSegments
from validation.corpus.segment_refs import BadLayout
from validation.corpus.tar import TarCorrupt, TarUnsafe
from validation.domain import Video
from validation.errors import BadInput, ClaimLost, Transient, Unreachable
from validation.ledger.queries import audit_ledger
from validation.ledger.rpc import BoxKeyRejected, LedgerRefused
from validation.storage.errors import InvalidObjectKey, ObjectMissing, StoreRefused
from validation.storage.store import open_store
from validation.worker.chunk import context as contexts
from validation.worker.chunk import runner as runners
from validation.worker.chunk.context import run_chunk
from validation.worker.chunk.errors import (
    MAX_EQUAL_REFUSALS,
    OUTCOME_FILE_VARIABLE,
    RefusalStreak,
    SourceMismatch,
    report_outcome,
    take_outcome,
)

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
EMPTY_TAR, TRUNCATED_TAR = bytes(10240), pack_tone(Video("cut", "hi", 2), 2)[:3000]


def test_a_broken_video_fails_alone(box):
    """A missing object, a broken tar and an empty tar fail with their reasons; the other video is validated."""
    box.add_videos("good")
    box.add_videos("missing", tar=False)
    box.add_videos("cut", tar=TRUNCATED_TAR)
    box.add_videos("empty", tar=EMPTY_TAR)
    run_chunk(box.context)
    errors = dict(fetch(box.engine, "SELECT video_id, validation_error FROM video_queue"))
    assert statuses(box.engine) == {
        "good": "validated", "missing": "validation_failed", "cut": "validation_failed", "empty": "validation_failed",
    }  # fmt: skip
    assert "does not exist" in errors["missing"]
    assert "the tar is broken" in errors["cut"]
    assert "no segments" in errors["empty"]


def test_an_unreachable_store_costs_no_attempt(box, monkeypatch):
    """If no video of a chunk can be fetched, all videos return to the queue without an attempt."""
    box.add_videos("a", "b")

    def unreachable(*_):
        raise Unreachable("the store", "s3://x", "check the network", "timed out")

    monkeypatch.setattr("validation.worker.chunk.context.fetch_video", unreachable)
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}


def make_fetch_fail(monkeypatch, errors):
    """Fetch as usual, but raise the given errors for some videos."""
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
        VideoTooLong("b.tar", 3600.0), AudioDecodeError("undecodable", "not audio"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_video_error_fails_only_its_video(box, monkeypatch, error):
    """An error about its object, tar, layout or audio fails the video with that message; the other video is
    validated."""
    box.add_videos("a", "b")
    make_fetch_fail(monkeypatch, {"b": error})
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
def test_any_other_error_costs_no_attempt(box, monkeypatch, error):
    """Any other error, known or unknown, returns the video with the error and a back-off; the other video is
    validated."""
    box.add_videos("a", "b")
    make_fetch_fail(monkeypatch, {"b": error})
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


def test_a_source_without_any_object_costs_no_attempt(box):
    """If not one video has an object, the address is wrong: one sentence, and every video returns without an
    attempt."""
    box.add_videos(*"abcdefg", tar=False)
    with pytest.raises(SourceMismatch, match=r"all 7 videos .* fail alike .*VFLEET_SOURCE_URL"):
        run_chunk(box.context)
    assert set(statuses(box.engine).values()) == {"pending"}
    assert attempts(box.engine) == {0}
    assert fetch(box.engine, "SELECT count(*) FROM video_queue WHERE validation_error IS NOT NULL") == [(0,)]


@pytest.mark.parametrize("tar", [b"<html>403</html>", b"", LFS_POINTER, EMPTY_TAR, TRUNCATED_TAR])
def test_chunk_whose_objects_all_fail_alike_costs_no_attempt(box, tar):
    """An error page or a pointer under every key, or tars that all break in one way, are not the videos' fault."""
    box.add_videos(*"abcd", tar=tar)
    with pytest.raises(SourceMismatch, match=r"all 4 videos .* fail alike .*vfleet inspect KEY"):
        run_chunk(box.context)
    assert set(statuses(box.engine).values()) == {"pending"}
    assert attempts(box.engine) == {0}


@pytest.mark.parametrize("tar", [False, b"<html>403</html>"])
def test_bad_objects_fail_alone_while_a_validated_video_can_be_read(box, tar):
    """The last videos of a queue may all be bad: where a validated tar can still be read, the address is right."""
    box.add_videos("good")
    run_chunk(box.context)
    box.add_videos(*"abc", tar=tar)
    run_chunk(box.context)
    assert statuses(box.engine) == {"good": "validated", **dict.fromkeys("abc", "validation_failed")}


def test_one_object_that_is_no_tar_fails_alone(box):
    """With its format in the error."""
    box.add_videos("a")
    box.add_videos("b", tar=LFS_POINTER)
    run_chunk(box.context)
    assert statuses(box.engine) == {"a": "validated", "b": "validation_failed"}
    assert fetch(box.engine, "SELECT validation_error FROM video_queue WHERE video_id = 'b'") == [
        ("b.tar is a Git LFS pointer, not a tar: a video is a plain or gzip-compressed tar",)
    ]


def test_a_missing_bucket_costs_no_attempt(box):
    """If the bucket does not exist, the run ends with the store's error before anything is scored, without an
    attempt."""
    box.add_videos("a", "b")
    context = replace(box.context, source=open_store("s3://no-such-bucket", box.context.settings))
    with pytest.raises(StoreRefused):
        run_chunk(context)
    assert statuses(box.engine) == {"a": "pending", "b": "pending"}
    assert attempts(box.engine) == {0}


def test_rows_that_cannot_be_built_cost_no_attempt(box, monkeypatch):
    """An unexpected error while rows are built delays that video and no other."""
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


@pytest.fixture
def end_with(tmp_path, monkeypatch):
    """End a flow run with an error or without one; return the outcome that its worker reads."""
    path = tmp_path / "outcome.json"
    monkeypatch.setenv(OUTCOME_FILE_VARIABLE, str(path))

    def end(error=None):
        try:
            with report_outcome():
                if error is not None:
                    raise error
        except type(error):
            pass
        outcome = take_outcome(path)
        assert list(tmp_path.iterdir()) == []
        return outcome

    return end


@pytest.mark.parametrize(
    "error",
    [BoxKeyRejected("val-1"), StoreRefused("s3://x", "403", "check it"), SourceMismatch("c", 7, "a.tar is missing")],
    ids=lambda error: type(error).__name__,
)
def test_box_wide_error_stops_the_worker_at_once(end_with, error):
    """A wrong box key, store or source stops the worker after one run, with the error's own message."""
    refused = RefusalStreak().add(end_with(error))
    assert isinstance(refused, BadInput)
    assert str(refused) == str(error)


def test_third_equal_error_in_a_row_stops_the_worker(end_with):
    """Equal means the same class; a run that ends otherwise restarts the count."""
    streak = RefusalStreak()
    ends = [KeyError("peak"), KeyError("peak"), None, KeyError("peak"), ValueError("x"), KeyError("a"), KeyError("b")]
    assert [streak.add(end_with(error)) for error in ends] == [None] * 7
    refused = streak.add(end_with(KeyError("c")))
    assert str(refused) == f"{MAX_EQUAL_REFUSALS} flow runs in a row ended with KeyError: 'c'"


@pytest.mark.parametrize("error", [Transient("busy"), ClaimLost("c", "expired")])
def test_an_outage_or_a_lost_claim_is_not_reported(end_with, error):
    """A transient error or a lost claim says nothing about the next chunk."""
    assert end_with(error) is None


def test_outcome_is_empty_without_a_worker_or_a_readable_file(monkeypatch, tmp_path):
    """Without a worker nothing is written; a missing or damaged file gives no outcome."""
    monkeypatch.delenv(OUTCOME_FILE_VARIABLE, raising=False)
    with report_outcome():
        pass
    (tmp_path / "damaged").write_text('{"kind": ')
    assert take_outcome(tmp_path / "none") is None
    assert take_outcome(tmp_path / "damaged") is None

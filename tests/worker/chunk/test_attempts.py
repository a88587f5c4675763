"""Only an error of the video itself costs the video an attempt."""

from dataclasses import replace

import pytest

from tests.support.chunk_helpers import attempts
from tests.support.ledger_helpers import fetch, statuses
from tests.support.worker_fixtures import pack_tone
from validation.corpus.audio import Undecodable
from validation.corpus.fetch import VideoTooLong
from validation.corpus.layouts import NoSegments
from validation.corpus.segment_refs import BadLayout
from validation.corpus.tar import TarCorrupt, TarUnsafe
from validation.domain import Video
from validation.errors import Unreachable
from validation.ledger.queries import audit_ledger
from validation.ledger.rpc import LedgerRefused
from validation.storage.errors import InvalidObjectKey, ObjectMissing, StoreRefused
from validation.storage.store import open_store
from validation.worker.chunk import context as contexts
from validation.worker.chunk import runner as runners
from validation.worker.chunk.context import run_chunk
from validation.worker.chunk.video_errors import SourceMismatch


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
    assert "the tar is broken" in errors["cut"]
    assert "no segments" in errors["empty"]


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

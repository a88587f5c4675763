"""A box sends any value to any function that its login may call, and breaks no view and no call of another box."""

import json

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.support.ledger_helpers import claim, execute, fetch
from validation.domain import Progress
from validation.ledger.chunks import renew_chunk
from validation.ledger.maintenance import Requeue, requeue_videos
from validation.ledger.queries import audit_ledger, read_view
from validation.shards.naming import shard_key

pytestmark = pytest.mark.attack

NUMBERS = [0, -1, 0.5, 1e12, 1e300, 10**400, 2**31, 2**63]
TEXTS = ["", "NaN", "Infinity", "x" * 20_000, "v0001", "ann", "\u202e", "1"]
ODD = st.sampled_from([None, True, *NUMBERS, *TEXTS, [], {}, [[]], {"models": []}, ["ear"], {"video_id": None}])
KEYS = st.sampled_from(["models", "verdicts", "audio_s", "size_bytes", "suite", "key", "sha256", "budgets", "gpus",
                        "instance", "segments", "video_id", "error", "transient", "charged", "flow_runs", "lease_s",
                        "last_error", "videos_validated", "segments_per_s", "accept", "name"])  # fmt: skip
DOCUMENTS = st.recursive(
    ODD, lambda inner: st.dictionaries(KEYS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=6
)
SHARD = {"key": "KEY", "sha256": "0" * 64, "size_bytes": 1000, "suite": "local", "models": {"ear": "1"}, "audio_s": 1.0,
         "verdicts": {"accept": 1, "review": 0, "reject": 0}}  # fmt: skip
VALIDATED, FAILED = {"video_id": "VIDEO", "segments": 1}, {"video_id": "VIDEO", "error": "e", "transient": True}
PROGRESS = {"videos_validated": 0, "videos_failed": 0, "segments": 0, "segments_per_s": 1.0}
CONFIG = {"instance": "ann-1", "budgets": {"flow_runs": 2, "lease_s": 75}, "gpus": [{"name": "g"}]}
SCALARS = st.sampled_from([None, 0, -1, 2**31 - 1, -(2**31)])

CALLS = {
    "commit_chunk": "(:chunk, CAST(:shard AS jsonb), CAST(:validated AS jsonb), CAST(:failed AS jsonb), :a, :b)",
    "renew_chunk": "(:chunk, 'ann', :a, CAST(:progress AS jsonb))",
    "register_worker": "('ann', :text, CAST(:real AS real), CAST(:config AS jsonb), :text, :text, :a)",
    "heartbeat_worker": "('ann', :text, :text, :text)",
    "claim_chunk": "(gen_random_uuid(), 'ann', NULL, :a, NULL, :b, :text)",
    "peek_videos": "('ann', NULL, :a)",
    "peek_validated": "('ann')",
    "count_labels": "('ann', ARRAY[:text])",
    "renumber_chunk": "(:chunk, :a)",
    "release_chunk": "(:chunk, :text)",
    "drain_worker": "('ann', :text)",
    "retire_worker": "('ann', :text)",
    "get_credential": "('ann', :text)",
}
VIEWS = "SELECT relname FROM pg_class WHERE relnamespace = 'validation'::regnamespace AND relkind = 'v'"


@st.composite
def altered(draw, document):
    """A valid document of which one value, at any depth, is replaced, or an odd document."""
    if draw(st.integers(0, 4)) == 0:
        return draw(DOCUMENTS)
    if isinstance(document, dict) and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(document)))
        return document | {name: draw(altered(document[name]))}
    return draw(ODD | st.just(document))


def fill(value, chunk, key):
    filled = json.dumps(value, ensure_ascii=True).replace('"KEY"', json.dumps(key))
    return filled.replace('"VIDEO"', json.dumps(chunk.videos[0].video_id))


ARGUMENTS = st.fixed_dictionaries({
    "shard": altered(SHARD), "validated": st.lists(altered(VALIDATED), max_size=2) | DOCUMENTS,
    "failed": st.lists(altered(FAILED), max_size=2) | DOCUMENTS, "progress": altered(PROGRESS),
    "config": altered(CONFIG),
})  # fmt: skip
SCALAR_ARGUMENTS = st.fixed_dictionaries({
    "text": st.sampled_from(TEXTS), "a": SCALARS, "b": SCALARS,
    "real": st.sampled_from(["NaN", "Infinity", "-1", "1e30", None]),
})  # fmt: skip
REFUSALS = {"VF", "22", "23", "42"}


@settings(
    max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(st.lists(st.sampled_from(sorted(CALLS)), min_size=2, max_size=5), ARGUMENTS, SCALAR_ARGUMENTS)
def test_odd_arguments_break_no_view_and_no_call_of_another_box(ledger, seed, calls, documents, scalars):
    """Each call is refused or harmless: afterwards every view can be read, the audit is clean and others work on."""
    execute(ledger, "TRUNCATE video_queue, validation_chunks, worker_validators, validation_shards CASCADE")
    seed(12)
    chunk, of_another_box = claim(ledger, size=2), claim(ledger, worker_id="bob", size=2)
    key = shard_key("ann", chunk.shard_number)
    values = {
        "chunk": chunk.chunk_id,
        **scalars,
        **{name: fill(value, chunk, key) for name, value in documents.items()},
    }
    for name in calls:
        call_as_thief(ledger, f"SELECT validation.{name}{CALLS[name]}", values)
    for (view,) in fetch(ledger, VIEWS):
        read_view(ledger, view)
    renew_chunk(ledger, of_another_box, Progress())
    requeue_videos(ledger, Requeue(lacking={"ear": None}))
    assert [check for check in audit_ledger(ledger) if check.violations] == []


def call_as_thief(ledger, call, values) -> None:
    """Every refusal is one of the ledger's own or of Postgres' types and constraints, and no internal error."""
    try:
        execute(ledger, call, **{name: value for name, value in values.items() if f":{name}" in call})
    except DBAPIError as refusal:
        if refusal.orig.sqlstate[:2] not in REFUSALS:
            raise


ATTACKS = {
    "models as a list": {"models": ["ear"]},
    "a terabyte": {"size_bytes": 10**12},
    "a billion seconds": {"audio_s": 1e9},
    "no bytes": {"size_bytes": 0},
    "not a number": {"audio_s": "NaN"},
}


@pytest.mark.parametrize("lie", ATTACKS.values(), ids=ATTACKS)
def test_impossible_receipt_is_refused(ledger, seed, lie):
    """Each of them was taken once; a list of models broke a view and the requeue for every user."""
    seed(2)
    chunk = claim(ledger, size=1)
    commit_raw(ledger, chunk, SHARD | lie, segments=1, is_taken=False)
    commit_raw(ledger, chunk, SHARD, segments=0, is_taken=False)
    commit_raw(ledger, chunk, SHARD, segments=1, is_taken=True)


def commit_raw(ledger, chunk, receipt, *, segments, is_taken):
    key = shard_key("ann", chunk.shard_number)
    done = [{"video_id": chunk.videos[0].video_id, "segments": segments}]
    call = text("SELECT validation.commit_chunk(:c, CAST(:s AS jsonb), CAST(:v AS jsonb), '[]', 3, 60)")
    given_ = {"c": chunk.chunk_id, "s": json.dumps(receipt | {"key": key}), "v": json.dumps(done)}
    with ledger.begin() as connection:
        if is_taken:
            connection.execute(call, given_)
            return
        with pytest.raises(DBAPIError, match=r"shard|validated|out of range"):
            connection.execute(call, given_)

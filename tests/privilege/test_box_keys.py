"""Box keys: all boxes share one login, and a compromised box reaches no other box's work."""

import pytest

from tests.support.ledger_helpers import claim, execute, fetch, shard
from validation.domain import Progress, StoreCredential, WorkerProfile
from validation.errors import BadInput
from validation.ledger.boxes import get_credential, issue_box_key, read_credential_status, store_credential
from validation.ledger.chunks import commit_chunk, release_chunk, renew_chunk
from validation.ledger.rpc import BoxKeyRejected, LedgerRefused
from validation.ledger.workers import drain_worker, heartbeat_worker, register_worker, retire_worker

pytestmark = pytest.mark.attack

WORKER = "validation_worker"
LENT = StoreCredential("id", "secret", "token")


def enter(engine, worker_id: str) -> None:
    register_worker(engine, WorkerProfile(worker_id, config={"instance": f"{worker_id}-1"}))


SPOKEN = {
    "register": enter,
    "claim": lambda engine, name: claim(engine, worker_id=name),
    "heartbeat": heartbeat_worker,
    "drain": drain_worker,
    "retire": retire_worker,
    "borrow": lambda engine, name: get_credential(engine, name, "results"),
}


@pytest.mark.parametrize("say", SPOKEN.values(), ids=SPOKEN)
def test_box_may_act_only_under_its_own_worker_id(ledger, boxes, log_in, say):
    """With another box's key, without a key, or under a worker id without a key, every call is refused."""
    say(boxes["ann"], "ann")
    before = fetch(ledger, "SELECT * FROM worker_validators WHERE worker_id = 'bob'")
    for engine, name in [(boxes["ann"], "bob"), (log_in(WORKER), "bob"), (boxes["ann"], "carl")]:
        with pytest.raises(BoxKeyRejected, match=name):
            say(engine, name)
    assert fetch(ledger, "SELECT * FROM worker_validators WHERE worker_id = 'bob'") == before


def test_token_without_the_box_key_cannot_commit(boxes):
    """A token that leaked is worthless without the key of the box that claimed it."""
    held = claim(boxes["ann"], worker_id="ann", size=1)
    done = {"shard": shard(of=held), "validated": {held.videos[0].video_id: 1}, "failed": [], "max_attempts": 3}
    with pytest.raises(BoxKeyRejected, match="ann"):
        commit_chunk(boxes["bob"], held.chunk_id, **done)
    commit_chunk(boxes["ann"], held.chunk_id, **done)


def test_token_without_the_box_key_cannot_release_or_renew(boxes):
    """The holder keeps its chunk."""
    held = claim(boxes["ann"], worker_id="ann", size=1)
    with pytest.raises(BoxKeyRejected, match="ann"):
        release_chunk(boxes["bob"], held.chunk_id, reason="test")
    with pytest.raises(BoxKeyRejected, match="ann"):
        renew_chunk(boxes["bob"], held, Progress())
    assert release_chunk(boxes["ann"], held.chunk_id, reason="test") == 1


def test_ledger_without_keys_accepts_every_worker_id(seed, log_in):
    """Until the first key is issued, as at home or in a test, no key is needed."""
    seed(1)
    assert claim(log_in(WORKER), worker_id="ann").videos


def test_control_plane_acts_for_every_worker(boxes, log_in):
    """The control plane needs no box key."""
    claim(boxes["ann"], worker_id="ann", size=1)
    assert retire_worker(log_in("validation_control"), "ann") == 1


def test_new_key_of_a_worker_id_voids_the_old_one(ledger, boxes, log_in):
    """The credentials issued to the earlier box are deleted."""
    store_credential(ledger, "ann", "results", LENT, ttl_s=60)
    successor = log_in(WORKER, issue_box_key(ledger, "ann"))
    enter(successor, "ann")
    assert get_credential(successor, "ann", "results") is None
    with pytest.raises(BoxKeyRejected):
        heartbeat_worker(boxes["ann"], "ann")


@pytest.mark.parametrize(("state", "may_speak"), [("working", True), ("draining", True), ("destroyed", False)])
def test_box_key_is_void_after_its_rental(ledger, seed, log_in, state, may_speak):
    """A copied key is worthless once the box is destroyed."""
    seed(1)
    execute(
        ledger,
        "INSERT INTO fleets (fleet, label_prefix, machines, max_usd_per_hour, max_usd, order_json, changed_at)"
        " VALUES ('f', 'f/', 1, 1, 1, '{}', now())",
    )
    execute(
        ledger,
        "INSERT INTO fleet_instances (label, fleet, slot, worker_id, state, offer_id, machine_id, host_id, gpu_name,"
        " usd_per_hour, usd_once, boot_timeout_s, instance_id, requested_at, changed_at, accepted_at, reason)"
        " VALUES ('f/1', 'f', 1, 'ann', :state, 1, 1, 1, 'g', 1, 1, 1, 1, now(), now(), now(), 'r')",
        state=state,
    )
    box = log_in(WORKER, issue_box_key(ledger, "ann", label="f/1"))
    if may_speak:
        heartbeat_worker(box, "ann")
    else:
        with pytest.raises(BoxKeyRejected):
            heartbeat_worker(box, "ann")
    assert [loan.worker_id for loan in read_credential_status(ledger)] == (["ann"] if may_speak else [])


def test_box_holds_at_most_16_chunks_for_an_hour(ledger, boxes):
    """Larger requests are refused or reduced."""
    for _ in range(16):
        claim(boxes["ann"], worker_id="ann", size=1, lease_s=10**9)
    with pytest.raises(LedgerRefused, match="16 open chunks"):
        claim(boxes["ann"], worker_id="ann", size=1)
    longest = "SELECT max(lease_expires_at) <= now() + interval '1 hour' FROM validation_chunks"
    assert fetch(ledger, longest) == [(True,)]


def test_claim_takes_at_most_a_thousand_videos(ledger, seed):
    """A larger size is reduced to a thousand."""
    seed(1001)
    assert len(claim(ledger, size=10**6).videos) == 1000


def test_box_cannot_block_another_boxs_calls(ledger, boxes):
    """Neither an advisory lock nor an open transaction of a box blocks the call of another."""
    execute(ledger, "GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(bigint) TO PUBLIC")  # as on a hosted Postgres
    with boxes["bob"].begin() as held:
        held.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('ann'))")
        held.exec_driver_sql("SELECT validation.heartbeat_worker('bob', p_instance => 'bob-1')")
        for say in (enter, lambda engine, name: heartbeat_worker(engine, name, instance=f"{name}-1")):
            say(boxes["ann"], "ann")
        assert claim(boxes["ann"], worker_id="ann", size=1).videos


def test_box_cannot_read_another_boxs_key_in_pg_stat_activity(boxes):
    """Sessions of one login see each other's statements: keys are parameters, which are not shown."""
    with boxes["ann"].begin(), boxes["bob"].connect() as watching:
        seen = {row[0] for row in watching.exec_driver_sql("SELECT query FROM pg_stat_activity WHERE usename = user")}
    assert any("set_config('vfleet.box_key', $3, true)" in statement for statement in seen)


def test_box_key_is_set_for_one_transaction(boxes):
    """Behind a pooler the next transaction on a connection belongs to another client."""
    with boxes["ann"].connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        connection.rollback()
        with connection.connection.driver_connection.cursor() as cursor:
            assert cursor.execute("SELECT current_setting('vfleet.box_key', true)").fetchone()[0] in {None, ""}
            connection.connection.driver_connection.rollback()


def test_box_gets_its_newest_credential_until_it_expires(ledger, boxes):
    """With its remaining time; none after that."""
    store_credential(ledger, "ann", "results", StoreCredential("old", "old", "old"), ttl_s=60)
    store_credential(ledger, "ann", "results", LENT, ttl_s=3600)
    held = get_credential(boxes["ann"], "ann", "results")
    assert (held.access_key_id, held.secret_access_key, held.session_token) == ("id", "secret", "token")
    assert "secret" not in repr(held)
    assert get_credential(boxes["ann"], "ann", "source") is None
    execute(ledger, "UPDATE validation.issued_credentials SET issued_at = 'epoch', expires_at = now() - interval '1 s'")
    assert get_credential(boxes["ann"], "ann", "results") is None


def test_credential_is_due_after_half_of_its_time(ledger, boxes):
    """A credential is also due if one of the two stores has none."""

    def due() -> list[str]:
        return [loan.worker_id for loan in read_credential_status(ledger) if loan.is_due]

    for store in ("source", "results"):
        assert due() == ["ann", "bob"]
        store_credential(ledger, "ann", store, LENT, ttl_s=3600)
    assert due() == ["bob"]
    execute(ledger, "UPDATE validation.issued_credentials SET issued_at = issued_at - interval '61 minutes'")
    execute(ledger, "UPDATE validation.issued_credentials SET expires_at = expires_at - interval '1 minutes'")
    assert due() == ["ann", "bob"]


def test_no_credential_is_stored_for_a_worker_without_a_key(ledger, seed):
    """No box could fetch it."""
    seed(1)
    store_credential(ledger, "ann", "source", LENT, ttl_s=60)
    assert fetch(ledger, "SELECT * FROM validation.issued_credentials") == []


def test_refusal_shows_no_key(boxes):
    """Errors are logged: they name the worker, and neither its key nor a credential."""
    with pytest.raises(BadInput) as refused:
        heartbeat_worker(boxes["ann"], "bob")
    chain = f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__cause__}"
    assert "SQL parameters hidden" in chain

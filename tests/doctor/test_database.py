"""The doctor looks at the queue: its table, its labels, its indexes, and whether it can be written."""

import pytest

from tests.support.ledger_helpers import engine_for, execute, fetch
from validation.doctor.check import CheckWarning
from validation.doctor.database import check_indexes, check_labels, check_queue, check_writable
from validation.doctor.runner import BOX_CHECKS, CONTROL_CHECKS
from validation.doctor.stores import check_conditional_put, check_queued_tars
from validation.errors import BadInput
from validation.ledger.migrate import migrate
from validation.ledger.queue_table import QueueUnfit, require_queue


def test_control_machine_tries_what_the_work_does():
    """It reads a queued tar and puts an object twice, as boxes do."""
    assert {check_queued_tars, check_conditional_put, check_labels, check_indexes} <= set(CONTROL_CHECKS)


def test_labels_that_no_model_is_asked_about_are_counted(healthy, box, monkeypatch):
    """With the number of their videos; a missing label is told apart. Boxes look before their worker starts."""
    assert check_labels in BOX_CHECKS
    monkeypatch.setenv("VFLEET_SUITE", "local")
    box.add_videos("a", tar=False)
    assert check_labels(healthy()) == "1 labels, all known"
    box.add_videos("b", "c", tar=False, language="klingonish")
    box.add_videos("d", tar=False, language=None)
    box.add_videos("e", tar=False, language="or-IN")
    says = (
        r"2 videos have a label that ISO 639 does not know: 'klingonish' \(2\); 1 videos have a label that no model of "
        r"suite local knows: 'or-IN' \(1\); 1 videos have no label"
    )
    with pytest.raises(CheckWarning, match=says):
        check_labels(healthy())


def test_queued_object_that_is_no_tar_is_named(healthy, box):
    """Also where each object answers: an error page under every key is found before a worker starts."""
    box.add_videos("a", "b", tar=b"<html>403</html>")
    with pytest.raises(BadInput, match=r"none of 2 queued videos has its tar \([ab].tar is an HTML page, not a tar"):
        check_queued_tars(healthy())
    box.add_videos("c")
    assert check_queued_tars(healthy()) == "c.tar can be read"


def test_invalid_index_is_named(healthy, box):
    """A build that was cut off leaves one, and no query uses it."""
    assert "valid" in check_indexes(healthy())
    execute(box.engine, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'video_queue_claimable'::regclass")
    with pytest.raises(BadInput, match="video_queue_claimable: `vfleet migrate` rebuilds them"):
        check_indexes(healthy())


def test_read_only_database_is_named(healthy, box):
    """As Supabase makes a database whose disk is full."""
    assert check_writable(healthy()) == "the database accepts changes"
    name = box.engine.url.database
    execute(box.engine, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(BadInput, match="the database is read-only"):
        check_writable(healthy(DATABASE_URL=box.environment["DATABASE_URL"] + "?application_name=another"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("DROP COLUMN claimed_by", "column claimed_by is missing: ALTER TABLE video_queue ADD COLUMN claimed_by text"),
        ("ALTER COLUMN segment_count TYPE bigint", "column segment_count is of type bigint"),
        ("ALTER COLUMN language TYPE varchar(8)", "column language is of type character varying"),
        ("ALTER COLUMN claimed_at TYPE timestamp", "column claimed_at is of type timestamp without time zone"),
        ("DROP CONSTRAINT video_queue_pkey", "two rows may have the same video_id"),
    ],
)
def test_queue_that_does_not_fit_is_refused_before_any_change(postgres, change, says):
    """Every problem is named, and not even the ledger's schema is made."""
    name = f"queue_{abs(hash(change))}"
    engine = engine_for(postgres.create_database(name))
    assert require_queue(engine) is False
    execute(
        engine,
        "CREATE TABLE video_queue (video_id text PRIMARY KEY, status varchar, language text, segment_count integer, "
        "claimed_by text, claimed_at timestamptz)",
    )
    assert require_queue(engine) is True
    execute(engine, f"ALTER TABLE video_queue {change}")
    with pytest.raises(QueueUnfit, match=says):
        migrate(engine)
    assert fetch(engine, "SELECT to_regnamespace('validation')") == [(None,)]
    engine.dispose()
    postgres.drop_database(name)


def test_queue_is_checked_by_the_doctor(healthy, box):
    """With the same sentences as the migration."""
    assert check_queue(healthy()) == "video_queue has every column"

"""Blocks: they supply what the environment of the control plane lacks; a box never reads one."""

import pytest
from prefect_aws import S3Bucket
from pydantic import SecretStr

from blocks.__main__ import save_blocks, test_blocks
from blocks.box import open_box_services
from blocks.bucket import RESULTS, build_bucket
from blocks.control import complete_settings
from blocks.types import (
    DATABASE_BLOCK,
    SUITE_BLOCK,
    VAST_BLOCK,
    ModelSuite,
    ValidationDatabase,
    VastCredentials,
    collect_box_environment,
    find_block,
    find_vast_account,
)
from simulation.fake_vast.service import EmbeddedVast
from validation.errors import BadInput
from validation.settings import load_settings
from validation.storage.store import list_keys, put_if_absent

test_blocks.__test__ = False  # a command, not a test

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]  # the first test waits for the start of the Prefect server

SECRETS = ("DATABASE_URL", "R2_ACCESS_KEY_ID", "R2_SECRET_ACCESS_KEY", "R2_ENDPOINT_URL", "VFLEET_RESULTS_URL")

KINDS = ("ModelSuite", "ValidationDatabase", "VastCredentials")
SAVED = ((ValidationDatabase, DATABASE_BLOCK), (ModelSuite, SUITE_BLOCK), (S3Bucket, RESULTS))


@pytest.fixture
def saved(prefect, box, monkeypatch):
    """The block documents of the environment, as `python -m blocks save` writes them; deleted after the test."""
    monkeypatch.setenv("VFLEET_SUITE", "local")
    assert save_blocks() == 0
    yield prefect
    for kind, name in SAVED:
        kind.delete(name)


def test_suite_that_was_not_chosen_is_not_saved(prefect, box):
    """Without VFLEET_SUITE no document decides about the models of new boxes."""
    assert save_blocks() == 0
    with pytest.raises(ValueError, match="Unable to find block document named suite"):
        ModelSuite.load(SUITE_BLOCK)
    for kind, name in SAVED:
        if kind is not ModelSuite:
            kind.delete(name)


def test_blocks_alone_open_the_control_plane(saved, box, control, monkeypatch):
    """A control machine that knows only the Prefect server opens the same ledger and the same bucket."""
    put_if_absent(box.context.results, "shards/x", b"x")
    for name in SECRETS:
        monkeypatch.delenv(name)
    opened = control()
    assert opened.engine.url.database == box.engine.url.database
    assert list(list_keys(opened.results)) == ["shards/x"]


def test_environment_precedes_the_blocks(saved, box, monkeypatch):
    """A bucket that the environment names, even without keys, is never completed from a block."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://here@127.0.0.1/own")
    monkeypatch.setenv("VFLEET_RESULTS_URL", "s3://own-bucket")
    monkeypatch.delenv("R2_ACCESS_KEY_ID")
    monkeypatch.delenv("R2_SECRET_ACCESS_KEY")
    settings = complete_settings(load_settings())
    assert settings.database_url.get_secret_value() == "postgresql://here@127.0.0.1/own"
    assert settings.results_url == "s3://own-bucket"
    monkeypatch.delenv("DATABASE_URL")
    settings = complete_settings(load_settings())
    assert settings.database_url.get_secret_value() == box.environment["DATABASE_URL"]
    assert settings.results_url == "s3://own-bucket"


def test_complete_environment_reads_no_block(box, control, monkeypatch):
    """A box, whose token may not read blocks, and a machine without Prefect need their environment only."""

    def refuse(*_):
        raise AssertionError("a block was asked for")

    monkeypatch.setattr("prefect.blocks.core.Block.load", refuse)
    assert control().engine.url.database == box.engine.url.database


def test_box_reads_no_block(saved, monkeypatch):
    """A box without a variable names it, even if a block has the value."""
    monkeypatch.delenv("DATABASE_URL")
    open_box_services.cache_clear()
    with pytest.raises(BadInput, match="DATABASE_URL is not set"):
        open_box_services()


def test_secrets_of_blocks_are_hidden(saved, box):
    """The server shows documents without their secrets, unless a client asks for them explicitly."""
    shown = saved.read_block_document_by_name(DATABASE_BLOCK, "validation-database", include_secrets=False)
    assert box.environment["DATABASE_URL"] not in str(shown)
    assert isinstance(find_block(ValidationDatabase, DATABASE_BLOCK).url, SecretStr)
    bucket = saved.read_block_document_by_name(RESULTS, "s3-bucket", include_secrets=False)
    assert bucket.data["credentials"]["aws_secret_access_key"] == "********"


def test_bucket_block_has_the_client_options_of_r2(saved, box, tmp_path):
    """Region auto, no unrequested checksum, the account's endpoint; boto3 reads what this project wrote."""
    put_if_absent(box.context.results, "shards/x", b"x")
    bucket = find_block(S3Bucket, RESULTS)
    client = bucket.credentials.get_s3_client()
    assert client.meta.region_name == "auto"
    assert client.meta.config.request_checksum_calculation == "when_required"
    assert client.meta.endpoint_url == box.environment["R2_ENDPOINT_URL"]
    bucket.download_object_to_path("shards/x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"x"


def test_blocks_test_uses_every_document(saved, capsys):
    """`python -m blocks test` uses each document once and prints what it found."""
    assert test_blocks() == 0
    output = capsys.readouterr().out
    assert "Postgres" in output
    assert "answers" in output
    assert "BOX_PARQUET_SHARD_SIZE=50" in output


def test_vast_account_is_saved_and_tested(prefect, box, open_folder, monkeypatch, capsys):
    """`save` writes it if a key is set, `test` asks the vendor, and an invalid key fails."""
    monkeypatch.setenv("VFLEET_SUITE", "local")
    with EmbeddedVast(open_folder) as vast:
        for name, value in vast.client_environment().items():
            monkeypatch.setenv(name, value)
        try:
            assert save_blocks() == 0
            monkeypatch.delenv("VAST_API_KEY")
            assert find_vast_account().api_key.get_secret_value() == vast.client_environment()["VAST_API_KEY"]
            assert test_blocks() == 0
            assert "of credit" in capsys.readouterr().out
            VastCredentials(api_key="dead-secret", url=vast.url).save(VAST_BLOCK, overwrite=True)
            assert test_blocks() == 1
            output = capsys.readouterr().out
            assert "vast: Vast.ai refuses the key" in output
            assert "dead-secret" not in output
        finally:
            for kind, name in (*SAVED, (VastCredentials, VAST_BLOCK)):
                kind.delete(name)


def test_failing_block_is_named(saved, capsys):
    """The command fails, and shows no password."""
    ValidationDatabase(url="postgresql://me:secret@127.0.0.1:9/x").save(DATABASE_BLOCK, overwrite=True)
    assert test_blocks() == 1
    output = capsys.readouterr().out
    assert "127.0.0.1:9/x is unreachable" in output
    assert "secret" not in output


def test_suite_block_fills_in_missing_box_variables(prefect):
    """A BOX_ variable of the environment takes precedence over the block."""
    environment = {
        "BOX_DATABASE_URL": "postgresql://b@h/x",
        "BOX_R2_ENDPOINT_URL": "https://r2",
        "BOX_PREFECT_API_URL": "https://p/api",
    }
    ModelSuite(suite="vad", languages=["hi", "te"], chunk_videos=20).save(SUITE_BLOCK, overwrite=True)
    try:
        box = collect_box_environment(environment)
        assert (box["VFLEET_SUITE"], box["VFLEET_LANGUAGES"], box["PARQUET_SHARD_SIZE"]) == ("vad", "hi,te", "20")
        assert collect_box_environment(environment | {"BOX_VFLEET_SUITE": "local"})["VFLEET_SUITE"] == "local"
    finally:
        ModelSuite.delete(SUITE_BLOCK)
    assert "VFLEET_SUITE" not in collect_box_environment(environment)


def test_unknown_suite_or_language_is_refused(prefect):
    """The block's test fails before a box is rented for it."""
    with pytest.raises(BadInput, match="known suites"):
        ModelSuite(suite="best").test_connection()
    with pytest.raises(BadInput, match="gibberish"):
        ModelSuite(suite="vad", languages=["gibberish"]).test_connection()


def test_bucket_without_keys_is_refused(box, monkeypatch):
    """Nothing is saved that cannot be opened."""
    monkeypatch.delenv("R2_ACCESS_KEY_ID")
    with pytest.raises(BadInput, match="R2_ACCESS_KEY_ID"):
        build_bucket(load_settings())


def test_every_block_and_field_is_described():
    """The form in the Prefect UI shows these descriptions."""
    import blocks.types

    for kind in KINDS:
        block = getattr(blocks.types, kind)
        assert block.__doc__
        assert all(field.description for field in block.model_fields.values()), kind
